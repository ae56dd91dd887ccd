"""Loops are found in modules as other people write them, and what only shares a part is not taken
for one."""

import warnings

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.loop_detection.loop_finder import Sharing, find_loops

from ..toys import foreign_loops
from ..toys.foreign_loops import FAMILY, WIDTH, Core, batch, build_loop


class Module(nn.Module):
    """A module with these parts, whose forward is a function of it and its input."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def only(result):
    assert len(result) == 1, str(result)
    return result.loops[0]


def iterations(model, loop, *args, **inputs):
    """How many iterations a recording has that follows the suggestion literally."""
    wrapped = eval(loop.suggestion, {"ls": ls, "model": model})
    return ls.record(wrapped, *args, **inputs).iterations


def stacked(*parts):
    return nn.ModuleList(parts)


def residual(parts, h):
    for part in parts:
        h = h + part(h)
    return h


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
    assert twins.suggestion == 'ls.wrap(model, body="layers")'
    assert {loop.parameters for loop in (same, alias, twins)} == {WIDTH * (WIDTH + 1)}


def test_norms_and_injections_are_in_the_body_if_the_state_goes_through_them():
    result = find_loops(build_loop(foreign_loops.Around), batch())
    assert only(result).body == ("core", "norm")
    assert result.passed_over == ("inject runs 4 times, but no call works on what an earlier one gave.",)

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
    assert only(result).body == ("core",) and result.passed_over == ()


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


def test_two_networks_in_turn_are_one_loop_with_a_loop_in_it():
    result = find_loops(build_loop(foreign_loops.Nested), batch())
    loop = only(result)
    assert (loop.body, loop.times, loop.inner) == (("low", "high"), 4, {"low": "low"})
    assert [(inner.body, inner.times) for inner in loop.loops] == [(("low",), 3)]
    assert loop.suggestion == 'ls.wrap(model, body=["low", "high"], inner={"low": "low"})'
    assert "low, high run one after another, 4 times." in str(
        result
    ) and "In each iteration low runs 3 times." in str(result)


def test_a_loop_inside_a_module_that_loops_is_its_inner_loop():
    def inside(self, h):
        for _ in range(3):
            h = self.low(h)
        return self.out(h)

    def outside(self, h):
        for _ in range(4):
            h = self.core(h)
        return h

    model = Module(outside, core=Module(inside, low=Core(), out=nn.Linear(WIDTH, WIDTH)))
    loop = only(find_loops(model, batch()))
    assert loop.suggestion == 'ls.wrap(model, body="core", inner={"low": "core.low"})'
    assert (loop.times, loop.loops[0].times) == (4, 3)
    wrapped = eval(loop.suggestion, {"ls": ls, "model": model})
    run = ls.record(wrapped, batch(), sites=["core.low"])
    assert run["core.low"].shape[:2] == (4, 3)


def test_three_levels_are_told_apart():
    def repeat(times):
        def forward(self, h):
            for _ in range(times):
                h = self.part(h)
            return self.out(h)

        return forward

    part = Core()
    for times in (2, 3, 4):
        part = Module(repeat(times), part=part, out=nn.Linear(WIDTH, WIDTH))
    loop = only(find_loops(part, batch()))
    assert [loop.body, loop.loops[0].body, loop.loops[0].loops[0].body] == [
        ("part",),
        ("part.part",),
        ("part.part.part",),
    ]
    assert [loop.times, loop.loops[0].times, loop.loops[0].loops[0].times] == [4, 3, 2]


@pytest.mark.parametrize("through", ["function", "module"])
def test_a_loop_that_is_not_always_as_long_tells_its_fewest_and_most(through):
    def inside(self, h):
        for _ in range(next(self.turns)):
            h = self.low(h)
        return h

    def outside(self, h):
        self.turns = iter((3, 1, 2))
        for _ in range(3):
            h = self.high(inside(self, h))
        return h

    def calling(self, h):
        self.core.turns = iter((3, 1, 2))
        for _ in range(3):
            h = self.core(h)
        return h

    model = Module(outside, low=Core(), high=Core())
    if through == "module":
        model = Module(calling, core=Module(inside, low=Core()))
        # A module that holds one part alone is that part, as far as parameters tell.
        model.core.out = nn.Linear(WIDTH, WIDTH)
    loop = only(find_loops(model, batch()))
    assert loop.times == loop.fewest == 3
    assert (loop.loops[0].times, loop.loops[0].fewest) == (3, 1)
    assert "In each iteration" in str(loop) and "runs 1 to 3 times" in str(loop)


def test_several_modules_in_an_iteration_are_named_in_their_order_and_a_list_by_its_name():
    def forward(self, x):
        e, h = self.embed(x), torch.zeros_like(x)
        for _ in range(4):
            h = self.adapter(torch.cat([h, e], -1))
            for layer in self.layers:
                h = h + layer(h)
        return self.head(h)

    model = Module(
        forward,
        embed=nn.Linear(WIDTH, WIDTH),
        adapter=nn.Linear(2 * WIDTH, WIDTH),
        layers=stacked(Core(), Core()),
        head=nn.Linear(WIDTH, 3),
    )
    loop = only(find_loops(model, batch()))
    assert loop.body == ("adapter", "layers.0", "layers.1") and loop.times == 4
    assert (
        loop.suggestion == 'ls.wrap(model, body="layers")'
    )  # the adapter takes state and input side by side
    assert iterations(model, loop, batch()) == 4


def test_several_loops_after_one_another_are_several():
    def forward(self, h):
        for part, times in ((self.first, 2), (self.second, 3)):
            for _ in range(times):
                h = part(h)
        return h

    result = find_loops(Module(forward, first=Core(), second=Core()), batch())
    assert [(loop.body, loop.times) for loop in result.loops] == [(("first",), 2), (("second",), 3)]


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


def test_the_roles_of_one_module_are_not_told_and_the_text_says_so():
    def forward(self, x):
        low, high = torch.zeros_like(x), torch.zeros_like(x)
        for _ in range(3):
            for _ in range(4):
                low = self.network(low + high + x)
            high = self.network(low + high)
        return high

    result = find_loops(Module(forward, network=Core()), batch())
    loop = only(result)
    assert (loop.times, loop.period, loop.inner) == (15, 5, {})
    assert "may serve several roles in turn" in str(result) and "only an adapter" in str(result)


def test_a_loop_over_several_inputs_is_a_loop_in_several_streams():
    def forward(self, x):
        one, other = x, x + 1
        for _ in range(3):
            one, other = self.core(one), self.core(other)
        return one - other

    loop = only(find_loops(Module(forward, core=Core()), batch()))
    assert (loop.times, loop.streams) == (3, 2)


def shared_norm(self, h):
    for attention, mlp in zip(self.attention, self.mlp, strict=True):
        h = h + attention(self.norm(h))
        h = h + mlp(self.norm(h))
    return self.norm(h)


def cores(count):
    return stacked(*(nn.Sequential(Core(), Core()) for _ in range(count)))


NO_LOOPS = {
    "shared norm": Module(shared_norm, norm=nn.LayerNorm(WIDTH), attention=cores(3), mlp=cores(3)),
    "shared norm around functions": Module(
        lambda self, h: self.mlp(self.norm(torch.softmax(h, 1) + self.norm(h))),
        norm=nn.LayerNorm(WIDTH),
        mlp=nn.Sequential(Core(), Core()),
    ),
    "shared activation": Module(
        lambda self, h: self.act(self.two(self.act(self.one(h)))),
        act=nn.PReLU(),
        one=nn.Linear(WIDTH, WIDTH),
        two=nn.Linear(WIDTH, WIDTH),
    ),
    "siamese": Module(lambda self, x: self.net(x) - self.net(x + 1), net=cores(1)[0]),
    "siamese of several parts": Module(
        lambda self, x: self.b(self.a(x)) - self.b(self.a(x + 1)), a=cores(1)[0], b=cores(1)[0]
    ),
    "siamese with batch norm": Module(
        lambda self, x: self.net(x[:, 0]) - self.net(x[:, 1]),
        net=nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH)),
    ),
    "siamese with spectral norm": Module(
        lambda self, x: self.net(x) - self.net(x + 1),
        net=nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH)),
    ),
    "noise as large as an earlier result": Module(
        lambda self, x: self.net(torch.randn_like(self.net(x))), net=nn.Linear(WIDTH, WIDTH)
    ),
    "q, k, v and out": Module(
        lambda self, x: self.proj(torch.softmax(self.proj(x) @ self.proj(x).mT, -1) @ self.proj(x)),
        proj=nn.Linear(WIDTH, WIDTH),
    ),
    "shared mlp between layers of their own": Module(
        lambda self, h: residual([f for layer in self.layers for f in (layer, self.mlp)], h),
        layers=cores(3),
        mlp=Core(),
    ),
    "untied layers": nn.TransformerEncoder(
        nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True), 3, enable_nested_tensor=False
    ),
    "mlp": nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)),
}


@pytest.mark.parametrize("name", NO_LOOPS)
@pytest.mark.parametrize("training", [False, True])
def test_what_shares_a_part_without_looping_is_no_loop(name, training):
    result = find_loops(NO_LOOPS[name].train(training), batch())
    assert not result and len(result) == 0, str(result)
    assert "no loop found" in str(result)


def test_why_nothing_was_counted_is_said():
    once = str(find_loops(NO_LOOPS["mlp"], batch()))
    assert (
        "Every part with parameters that ran, ran once." in once and "Only calls of modules are seen" in once
    )
    twice = str(find_loops(NO_LOOPS["siamese"], batch()))
    assert "net runs 2 times, but no call works on what an earlier one gave." in twice
    mixed = str(find_loops(NO_LOOPS["shared mlp between layers of their own"], batch()))
    assert "mlp runs 3 times, but most of what runs from one call to the next does not run again" in mixed


def test_a_loop_over_bare_weights_is_not_seen_and_the_text_says_why():
    def forward(self, h):
        for _ in range(4):
            h = torch.tanh(nn.functional.linear(h, self.core.linear.weight))
        return h

    result = find_loops(Module(forward, core=Core()), batch())
    assert (
        not result
        and "a loop over weights that are used directly, without calling their module, is not" in str(result)
    )


def test_one_embedding_used_twice_is_no_loop():
    def forward(self, tokens):
        h = self.embed(tokens)
        return h + self.embed((h.sum(-1) > 0).long())

    assert not find_loops(Module(forward, embed=nn.Embedding(5, WIDTH)), torch.zeros(2, 3, dtype=torch.long))


def test_finding_leaves_module_and_generators_as_they_were():
    def forward(self, h):
        for _ in range(3):
            h = self.core(h + torch.rand_like(h))
        self.count.add_(1)
        return h

    model = Module(forward, core=nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(3), nn.Dropout(0.5)))
    model.register_buffer("count", torch.zeros(()))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parts = {name: vars(part).copy() for name, part in model.named_modules()}
    state = torch.get_rng_state()
    assert only(find_loops(model, batch())).times == 3
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and all(
        torch.equal(value, before[name]) for name, value in model.state_dict().items()
    )
    assert all(vars(part).keys() == parts[name].keys() for name, part in model.named_modules())


def test_nothing_stays_attached_after_an_exception():
    model = build_loop(foreign_loops.Loop)
    with pytest.raises(RuntimeError):
        find_loops(model, torch.zeros(2, 3, 5))
    assert all("forward" not in vars(part) for part in model.modules())
    with pytest.raises(ls.LoopscopeError, match=r"find_loops needs a torch.nn.Module, but got str"):
        find_loops("core", batch())


def tokens(positions=7):
    return torch.randint(0, 64, (2, positions), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "options", "body", "times"),
    [("universal", {"iterations": 5}, "core.0", 5), ("ouro", {}, "core", 4)],
)
def test_the_zoo_loops_as_its_cards_say(name, options, body, times):
    model = ls.models.build(name, **options).eval()
    x = tokens() % model.config.vocabulary
    loop = only(find_loops(model, x))
    assert loop.body[0] == body and loop.times == times
    assert iterations(model, loop, x) == times


def test_the_two_clocks_of_the_zoo_are_found():
    model = ls.models.build("hrm", segments=2).eval()
    loop = only(find_loops(model, tokens() % 5))
    assert (loop.times, loop.loops[0].times) == (model.config.iterations, model.config.low_updates)
    assert loop.inner == {"low": loop.body[0]}


def test_transformers_hrm_text():
    from transformers import HrmTextConfig, HrmTextForCausalLM

    config = HrmTextConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        head_dim=8,
        H_cycles=2,
        L_cycles=3,
    )
    loop = only(find_loops(HrmTextForCausalLM(config).eval(), tokens()))
    assert (loop.body, loop.times) == (("model.L_module", "model.H_module"), 2)
    assert loop.inner == {"low": "model.L_module"} and loop.loops[0].times == 3


def test_transformers_albert():
    from transformers import AlbertConfig, AlbertForMaskedLM

    config = AlbertConfig(
        vocab_size=64,
        embedding_size=16,
        hidden_size=32,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=64,
    )
    model = AlbertForMaskedLM(config).eval()
    loop = only(find_loops(model, input_ids=tokens()))
    assert loop.suggestion == 'ls.wrap(model, body="albert.encoder.albert_layer_groups.0")'
    assert iterations(model, loop, tokens()) == loop.times == 6


def plain(name):
    import transformers

    small = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1}
    if name == "GPT2":
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=32, n_layer=3, n_head=2, **small))
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, **small
        )
    )


@pytest.mark.parametrize("name", ["GPT2", "Llama"])
def test_plain_transformers_have_no_loop(name):
    assert not find_loops(plain(name).eval(), tokens())


def test_x_transformers():
    x = pytest.importorskip("x_transformers")
    looped = x.TransformerWrapper(
        num_tokens=64,
        max_seq_len=16,
        looped=True,
        max_looped_steps=4,
        attn_layers=x.Decoder(
            dim=32, depth=2, heads=2, pre_and_post_norm=True, rotary_pos_emb=True, use_rmsnorm=True
        ),
    ).eval()
    loop = only(find_loops(looped, tokens()))
    assert (loop.body, loop.times) == (("attn_layers",), 4)
    assert iterations(looped, loop, tokens()) == 4
    tied = x.TransformerWrapper(
        num_tokens=64, max_seq_len=16, attn_layers=x.Encoder(dim=32, depth=5, heads=2, weight_tie_layers=True)
    ).eval()
    loop = only(find_loops(tied, tokens()))
    assert loop.times == 5 and {"attn_layers.layers.0.1", "attn_layers.layers.1.1"} <= set(loop.body)
    assert iterations(tied, loop, tokens()) == 5


def test_tiny_recursive_model():
    trm = pytest.importorskip("tiny_recursive_model")
    network = trm.MLPMixer1D(dim=32, depth=2, seq_len=16)
    model = trm.TinyRecursiveModel(dim=32, num_tokens=64, network=network).eval()
    outputs, latents = model.get_initial()
    result = find_loops(model, tokens(16), outputs=outputs, latents=latents)
    loop = only(result)
    assert (loop.body, loop.times, loop.period) == (("network",), 21, 7)
    assert "only an adapter" in str(result)
    assert iterations(model, loop, tokens(16), outputs=outputs, latents=latents) == 21
