"""What belongs to the body of a loop, and what stands next to it."""

import warnings

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.loop_detection.loop_finder import find_loops
from loopscope.loop_detection.loops import Sharing

from ..toys import foreign_loops
from ..toys.foreign_loops import FAMILY, WIDTH, Core, batch, build_loop
from ..toys.loop_modules import Module, iterations, only, residual, stacked


@pytest.mark.parametrize("kind", [*FAMILY, foreign_loops.Learning, foreign_loops.Around, foreign_loops.Fused])
@pytest.mark.parametrize("grad", [False, True])
def test_the_habits_of_real_loops_hide_none(kind, grad):
    model, x = build_loop(kind), batch()
    with torch.set_grad_enabled(grad), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop = only(find_loops(model, x))
        assert (loop.times, loop.fewest) == (kind.turns, kind.turns)
        assert iterations(model, loop, x) == loop.times


def test_how_parameters_come_to_be_shared_is_told():
    same, alias, twins = (
        only(find_loops(build_loop(kind), batch()))
        for kind in (foreign_loops.Loop, foreign_loops.Alias, foreign_loops.Twins)
    )
    assert same.sharing is Sharing.SAME_MODULE and same.names == ("core",)
    assert alias.sharing is Sharing.SEVERAL_NAMES and alias.names == ("core", "also")
    assert twins.sharing is Sharing.SHARED_STORAGE and set(twins.names) == {
        "core",
        *(f"layers.{i}" for i in range(5)),
    }
    assert twins.suggestion == 'ls.wrap(model, body="layers", head="head")'
    assert {loop.parameters for loop in (same, alias, twins)} == {WIDTH * (WIDTH + 1)}


def test_norms_and_injections_are_in_the_body_if_the_state_goes_through_them():
    result = find_loops(build_loop(foreign_loops.Around), batch())
    assert only(result).body == ("core", "norm")
    assert result.rejected == ("inject runs 4 times, but no call uses the result of an earlier one.",)

    def opened(self, h):
        for _ in range(4):
            h = h + self.core(self.norm(h))
        return h

    assert only(find_loops(Module(opened, core=Core(), norm=nn.RMSNorm(WIDTH)), batch())).body == (
        "norm",
        "core",
    )


def test_a_state_written_to_where_it_is_told_to_is_followed():
    def forward(self, x):
        h = torch.empty_like(x)
        torch.add(x, 0, out=h)
        for _ in range(4):
            torch.add(self.core(h), x, out=h)
        return h

    assert only(find_loops(Module(forward, core=Core()), batch())).times == 4


def test_an_iteration_that_is_not_whole_counts_for_the_parts_it_has():
    def forward(self, h):
        for t in range(4):
            h = self.core(h if t == 0 else self.inject(h))
        return h

    core = nn.Sequential(*(Core() for _ in range(4)))
    loop = only(find_loops(Module(forward, core=core, inject=nn.Linear(WIDTH, WIDTH)), batch()))
    assert (loop.body, loop.times) == (("core",), 4)


def test_an_inner_loop_of_several_modules_is_found():
    def forward(self, h):
        for _ in range(2):
            for _ in range(2):
                h = self.c(self.b(self.a(h)))
            h = self.d(h)
        return h

    model = Module(forward, **{name: Core() for name in "abcd"})
    loop = only(find_loops(model, batch()))
    assert (loop.body, loop.times) == (("a", "b", "c", "d"), 2)
    assert [(inner.body, inner.times) for inner in loop.loops] == [(("a", "b", "c"), 2)]


def test_a_norm_that_runs_twice_beside_a_loop_is_not_worth_a_sentence():
    def forward(self, h):
        for _ in range(3):
            h = self.core(h)
        return self.norm(self.head(self.norm(h)))

    model = Module(
        forward,
        core=nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(30))),
        norm=nn.RMSNorm(WIDTH),
        head=Core(),
    )
    result = find_loops(model, batch())
    assert only(result).body == ("core",) and result.rejected == ()


def test_a_call_that_fails_and_is_caught_breaks_no_loop():
    def fail(self, h):
        raise RuntimeError

    def forward(self, h):
        for _ in range(3):
            try:
                h = self.fails(h)
            except RuntimeError:
                h = self.core(h)
        return h

    model = Module(forward, core=Core(), fails=Module(fail, linear=nn.Linear(WIDTH, WIDTH)))
    assert only(find_loops(model, batch())).times == 3
    loop = only(find_loops(Module(lambda self, h: self.head(self.loop(h)), loop=model, head=Core()), batch()))
    assert (loop.body, loop.times) == (("loop.core",), 3)


def test_a_wrapper_of_one_part_is_that_part():
    model = nn.Sequential(nn.Sequential(nn.Sequential(Core())), nn.Linear(WIDTH, 3))
    assert "Every part with parameters that ran, ran once." in str(find_loops(model, batch()))
    wrapped = Module(
        lambda self, h: self.part(h),
        part=Module(lambda self, h: self.part(h), part=build_loop(foreign_loops.Loop)),
    )
    twice = Module(
        lambda self, h: self.part(h), part=Module(foreign_loops.Loop.forward, core=Core(), head=nn.Identity())
    )
    twice.part.turns = 5
    assert only(find_loops(wrapped, batch())).body == ("part.part.core",)
    assert only(find_loops(Module(lambda self, h: self.part(h), part=twice), batch())).body == (
        "part.part.core",
    )


def layer(attention, mlp):
    return Module(
        lambda self, h: residual((lambda h: self.attention(self.norm(h)), self.mlp), h),
        norm=nn.LayerNorm(WIDTH),
        attention=attention,
        mlp=mlp,
    )


@pytest.mark.parametrize("how", ["object", "storage"])
def test_layers_that_share_all_but_their_norms_are_a_loop(how):
    attention, mlp = Core(), Core()
    layers = []
    for _ in range(4):
        own = (attention, mlp)
        if how == "storage":
            own = (Core(), Core())
            for part, source in zip(own, (attention, mlp), strict=True):
                part.linear.weight, part.linear.bias = source.linear.weight, source.linear.bias
        layers.append(layer(*own))
    model = Module(lambda self, h: nn.Sequential(*self.layers)(h), layers=stacked(*layers))
    loop = only(find_loops(model, batch()))
    assert loop.body == ("layers.0.attention", "layers.0.mlp") and loop.times == 4
    assert loop.sharing is (Sharing.SEVERAL_NAMES if how == "object" else Sharing.SHARED_STORAGE)
    assert iterations(model, loop, batch()) == 4


def test_rows_that_leave_the_batch_break_no_loop():
    def forward(self, x):
        h, left = x.clone(), torch.arange(len(x))
        for _ in range(3):
            h[left] = self.core(h[left])
            left = left[: max(1, len(left) - 1)]
        return h

    loop = only(find_loops(Module(forward, core=Core()), batch(size=3)))
    assert (loop.body, loop.times) == (("core",), 3)


def test_read_outs_and_gates_are_called_in_every_iteration_and_carry_no_state():
    def forward(self, x):
        h, answer = x, 0
        for t in range(4):
            h = self.core(h)
            if t < 3:  # the last iteration needs no gate
                p = torch.sigmoid(self.gate(h))
            answer = answer + p * self.head(h)
        return answer

    model = Module(forward, core=Core(), gate=nn.Linear(WIDTH, 1), head=nn.Linear(WIDTH, WIDTH))
    assert only(find_loops(model, batch())).suggestion == 'ls.wrap(model, body="core")'


def test_a_gate_that_mixes_the_state_stands_beside_the_loop():
    def forward(self, h):
        for _ in range(4):
            p = torch.sigmoid(self.gate(h))
            h = p * self.core(h) + (1 - p) * h
        return h

    gate = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1))
    loop = only(find_loops(Module(forward, core=nn.Sequential(Core(), Core()), gate=gate), batch()))
    assert (loop.body, loop.times) == (("core",), 4)


def test_an_outgoing_and_an_incoming_map_are_both_of_the_loop():
    def forward(self, h):
        for _ in range(4):
            h = h + self.down(torch.relu(self.up(h)))
        return h

    model = Module(forward, up=nn.Linear(WIDTH, 32), down=nn.Linear(32, WIDTH))
    assert only(find_loops(model, batch())).body == ("up", "down")


def test_a_state_kept_on_the_module_or_in_a_buffer_is_followed():
    def core(self, x):
        self.state = torch.tanh(self.linear(self.state + x))
        return self.state

    def forward(self, x):
        self.core.state = torch.zeros_like(x)
        for _ in range(4):
            h = self.core(x)
        return h

    loop = only(find_loops(Module(forward, core=Module(core, linear=nn.Linear(WIDTH, WIDTH))), batch()))
    assert (loop.body, loop.times) == (("core",), 4)


def test_forward_called_by_hand_and_modules_with_hooks_are_seen():
    def forward(self, h):
        for _ in range(4):
            h = self.core.forward(h)
        return self.hooked(self.hooked(self.hooked(h)))

    model = Module(forward, core=Core(), hooked=Core())
    model.hooked.register_forward_hook(lambda module, args, output: output * 1.5)
    assert [loop.times for loop in find_loops(model, batch()).loops] == [4, 3]


def test_a_text_and_embeddings_are_read_as_record_reads_them():
    from ..toys.text_tokenizers import bytes_tokenizer

    class Texts(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.core = nn.Embedding(300, 4), nn.Linear(4, 4)

        def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, inputs_embeds=None):
            h = self.embed(input_ids) if inputs_embeds is None else inputs_embeds
            for _ in range(3):
                h = self.core(h)
            return h

    tokenizer, model = bytes_tokenizer(), Texts()
    expected = str(find_loops(model, torch.tensor([tokenizer("A loop").input_ids])))
    assert "core runs 3 times" in expected
    assert str(find_loops(model, "A loop", tokenizer=tokenizer)) == expected
    assert str(find_loops(model, tokenizer("A loop", return_tensors="pt"))) == expected
    assert str(find_loops(model, inputs_embeds=torch.ones(1, 2, 4))) == expected
    with pytest.raises(ls.LoopscopeError, match="a model reads tokens, but got text"):
        find_loops(model, "A loop")
