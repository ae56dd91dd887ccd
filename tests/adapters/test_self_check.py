"""A family by its name only: a model of a family's class is followed as it is wired, or the first
recording says that it isn't, and records the model's own forward."""

import copy
import warnings

import pytest
import torch
from torch import nn

import loopscope as ls

from ..toys import other_wirings as own
from ..toys import stack_doubles as stacks
from ..toys.parcae_double import Parcae
from ..toys.small_models import tiny_recursive, x_transformer

FOLLOWED = {
    own.RavenForCausalLM: (
        *(
            "published",
            "no_norm",
            "skip_adapter",
            "zero_start",
            "embedded_start",
            "own_draw",
            "swapped_halves",
        ),
        *("swapped_blocks", "norm_inside", "more_iterations", "noise", "no_norm skip_adapter zero_start"),
        *("skip_adapter own_draw", "skip_adapter embedded_start swapped_halves"),
    ),
    own.OuroForCausalLM: ("published", "no_norm_inside", "swapped_layers", "no_gate"),
    own.HrmTextForCausalLM: ("published",),
    own.AlbertModel: ("published",),
    stacks.MoEUTLM: ("published", "one_layer", "no_norm"),
    Parcae: ("published", "linear", "zero_start no_prelude_norm", "softcap", "no_coda"),
    stacks.GPT: ("published", "passthrough", "no_prelude", "swapped_halves", "no_prelude passthrough"),
}
CAUGHT = {
    own.RavenForCausalLM: (
        "scaled",
        "scaled_tail",
        "capped",
        "own_noise",
        "skip_adapter capped",
        "no_norm scaled",
    ),
    own.OuroForCausalLM: ("scaled", "capped", "late_norm", "own_noise"),
    own.HrmTextForCausalLM: ("zero_high", "no_low", "scaled", "capped"),
    own.AlbertModel: ("scaled", "norm_after", "swapped_groups"),
    stacks.MoEUTLM: ("scaled", "own_noise"),
    Parcae: ("scaled", "capped", "own_noise", "own_draw", "late_values"),
    stacks.GPT: ("scaled", "capped", "own_noise", "passthrough scaled"),
}
UNSEEN = {
    own.HrmTextForCausalLM: ("swapped_stacks",),
    stacks.MoEUTLM: ("alternating",),
    stacks.GPT: ("skip_injection",),
    Parcae: ("skip_injection",),
}
"""Whose loop isn't between the parts that begin and end an iteration."""
TOKENS = torch.randint(0, 40, (2, 5), generator=torch.Generator().manual_seed(3))


def cases(table):
    pairs = [(kind, wiring) for kind, wirings in table.items() for wiring in wirings]
    return pytest.mark.parametrize(("kind", "wiring"), pairs, ids=[f"{k.__name__} {w}" for k, w in pairs])


def built(kind, wiring):
    torch.manual_seed(1)
    return kind(*(word for word in wiring.split() if word != "published")).eval()


def answer_of(model, **inputs):
    """The model's own answer and states."""
    torch.manual_seed(0)
    with torch.no_grad():
        return ls.wrap(model).forward_logits(TOKENS, **inputs), list(model.seen)


def is_right(run, logits, states):
    assert torch.equal(run.output, logits)
    assert run.iterations == len(states) - 1
    for k in run.states.iterations:
        assert torch.equal(run.states[k], states[k]), f"states[{k}]"


@cases(FOLLOWED)
def test_another_wiring_is_followed(kind, wiring):
    model = built(kind, wiring)
    logits, states = answer_of(model)
    wrapped = ls.wrap(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ls.LoopscopeWarning)
        run = ls.record(wrapped, TOKENS, seed=0)
    is_right(run, logits, states)
    assert run.states.iterations == list(range(len(states)))
    assert wrapped.difference(TOKENS) == 0
    if wiring.split()[-1] not in ("noise", "own_draw"):
        assert torch.equal(ls.resume(wrapped, run, run.iterations, start=1).output, logits)
        assert torch.equal(ls.record(wrapped, TOKENS, 1, seed=0).states[1], states[1])


@cases(CAUGHT)
def test_a_wiring_that_is_not_followed_is_said_and_recorded_as_it_is(kind, wiring):
    model = built(kind, wiring)
    logits, states = answer_of(model)
    wrapped = ls.wrap(model)
    before = torch.get_rng_state()
    with pytest.warns(ls.LoopscopeWarning, match=r"own forward gives, but.*check=False"):
        run = ls.record(wrapped, TOKENS, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    is_right(run, logits, states)
    assert run.states.iterations[-len(states) + 1 :] == list(range(1, len(states)))
    assert "scaled" not in wiring.split() or kind is own.HrmTextForCausalLM or 0 not in run.states.iterations
    assert wrapped.difference(TOKENS) > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", ls.LoopscopeWarning)  # said once
        is_right(ls.record(wrapped, TOKENS, seed=0, sites="all"), logits, states)
    for refused in (
        lambda: run.logits[1],
        lambda: ls.resume(wrapped, run, run.iterations, start=1),
        lambda: ls.record(wrapped, TOKENS, 2),
        lambda: ls.record(wrapped, TOKENS, edits=[ls.skip(1)]),
        lambda: ls.effects(run, run),
        lambda: ls.analyses.measure("fixed_points", run),
        lambda: ls.lens(run),
        lambda: wrapped.encode(TOKENS),
    ):
        with pytest.raises(ls.LoopscopeError, match=r"own forward gives, but.*wrap\(model, check=False\)"):
            refused()


@cases(UNSEEN)
def test_parts_in_another_order_are_refused(kind, wiring):
    model = built(kind, wiring)
    with (
        pytest.warns(ls.LoopscopeWarning, match="own forward gives, but"),
        pytest.raises(ls.LoopscopeError, match="can't be recorded by its family's adapter"),
    ):
        ls.record(ls.wrap(model), TOKENS)


@cases(CAUGHT)
def test_an_edit_of_a_wiring_that_is_not_followed_is_made_in_the_models_own_forward(kind, wiring):
    model = built(kind, wiring)
    wrapped = ls.wrap(model)
    value = torch.ones(2, 5, 16)
    with pytest.warns(ls.LoopscopeWarning):
        run = ls.record(wrapped, TOKENS, seed=0, edits=[ls.patch("state", iteration=2, value=value)])
    assert torch.equal(run.states[2], value)
    assert torch.equal(run.states[1], answer_of(model)[1][1])
    assert not torch.equal(run.output, answer_of(model)[0])


def test_what_uses_the_four_functions_without_a_recording_checks_them_too(tmp_path):
    model = built(own.OuroForCausalLM, "capped")
    with (
        pytest.warns(ls.LoopscopeWarning, match="own forward gives, but"),
        pytest.raises(ls.LoopscopeError, match="own forward gives, but"),
    ):
        ls.answer(ls.wrap(model), TOKENS, rule="kl")
    with ls.recording(ls.wrap(model)) as passes:
        logits = model(TOKENS).logits
    assert torch.equal(passes.at(token=0).output, logits)
    with pytest.raises(ls.LoopscopeError, match="must be its adapter's read-out of a state"):
        passes.at(token=0).logits[1]
    with pytest.warns(ls.LoopscopeWarning):
        ls.record(ls.wrap(model), TOKENS).save(tmp_path / "run.safetensors")
    loaded = ls.load_run(tmp_path / "run.safetensors", model=ls.wrap(model))
    with pytest.raises(ls.LoopscopeError, match="own forward gives, but"):
        loaded.logits[1]


def test_what_needs_only_states_is_measured_on_the_models_own():
    model = built(own.RavenForCausalLM, "capped")
    with pytest.warns(ls.LoopscopeWarning):
        run = ls.record(ls.wrap(model), TOKENS, seed=0, grad=True)
    assert str(ls.analyses.measure("convergence", run))
    assert torch.autograd.grad(run.output.sum(), run.states[-1])[0].abs().max() > 0


def test_without_the_check_the_four_functions_are_used():
    model = built(own.RavenForCausalLM, "capped")
    wrapped = ls.wrap(model, check=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ls.LoopscopeWarning)
        run = ls.record(wrapped, TOKENS, seed=0)
    assert not torch.equal(run.output, answer_of(model)[0])
    assert torch.equal(run.logits[run.iterations], run.output)


def test_a_model_whose_loop_no_hook_shows_is_refused():
    class Twice(type(tiny_recursive())):
        def refine_latent_then_output_once(self, inputs, outputs, latents):
            outputs, latents = super().refine_latent_then_output_once(inputs, outputs, latents)
            return 2 * outputs, latents

    torch.manual_seed(1)
    model = tiny_recursive().eval()
    model.__class__ = Twice
    with (
        pytest.warns(ls.LoopscopeWarning, match="own forward gives, but"),
        pytest.raises(
            ls.LoopscopeError,
            match="can't be recorded by its family's adapter.*The four functions.*own forward gives",
        ),
    ):
        ls.record(ls.wrap(model), torch.randint(0, 40, (2, 8)))


@pytest.mark.parametrize("looped", [True, False])
def test_what_another_transformer_wrapper_does_after_its_loop_is_followed_and_a_second_loop_caught(looped):
    model = x_transformer(looped=looped).eval()

    class Doubled(type(model)):
        def forward(self, x, **inputs):
            return 2 * super().forward(x, **inputs)

    class Again(type(model)):
        def forward(self, x, **inputs):
            return super().forward(x, sum_embeds=super().forward(x, return_embeddings=True))

    count = ls.record(ls.wrap(model), TOKENS).iterations
    model.__class__ = Doubled
    with warnings.catch_warnings():
        warnings.simplefilter("error", ls.LoopscopeWarning)
        assert torch.equal(ls.record(ls.wrap(model), TOKENS).output, model(TOKENS))
    model.__class__ = Again
    with pytest.warns(ls.LoopscopeWarning, match="own forward gives, but"):
        run = ls.record(ls.wrap(model), TOKENS)
    assert torch.equal(run.output, model(TOKENS))
    assert run.iterations == 2 * count


def test_the_check_costs_one_forward_for_each_kind_of_inputs():
    model = built(own.OuroForCausalLM, "published")
    wrapped, calls = ls.wrap(model), []
    model.model.layers[0].mlp.register_forward_hook(lambda *_: calls.append(1))
    masked = {"attention_mask": torch.ones(2, 5)}
    counts = []
    for training, inputs in ((0, {}), (0, {}), (0, masked), (0, masked), (0, {}), (1, {}), (1, {}), (0, {})):
        calls.clear()
        ls.record(wrapped, TOKENS, **inputs) if not training else ls.record(ls.wrap(model.train()), TOKENS)
        model.eval()
        counts.append(len(calls))
    assert counts == [8, 4, 8, 4, 4, 8, 8, 4], "four iterations each, and four of the check"


def test_the_check_leaves_buffers_and_random_state_as_one_pass_would():
    torch.manual_seed(1)
    model = own.RavenForCausalLM()
    model.transformer.prelude.append(_Normed())
    one, other = model.train(), copy.deepcopy(model)
    torch.manual_seed(4)
    logits = other(TOKENS).logits
    after = torch.get_rng_state()
    torch.manual_seed(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ls.LoopscopeWarning)
        run = ls.record(ls.wrap(one, check=True), TOKENS)
    assert torch.equal(run.output, logits)
    assert torch.equal(torch.get_rng_state(), after)
    for buffer, expected in zip(one.buffers(), other.buffers(), strict=True):
        assert torch.equal(buffer, expected)


class _Normed(nn.Module):
    """A block with running means, which a forward in training changes."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def forward(self, x, *_):
        return x + self.norm(x.transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_short_dtypes_rounding_is_no_difference_but_another_wiring_is(dtype):
    for wiring, differs in (("published", False), ("capped", True)):
        model = built(own.HrmTextForCausalLM, wiring).to(dtype)
        wrapped = ls.wrap(model)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            ls.record(wrapped, TOKENS)
        assert any("own forward gives, but" in str(one.message) for one in said) == differs
