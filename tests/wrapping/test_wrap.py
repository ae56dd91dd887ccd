"""Loops that other people wrote are recorded right, whatever their habits."""

import inspect

import pytest
import torch

import loopscope as ls
from loopscope.core.hooks import TemporaryHooks

from ..toys import foreign_loops
from ..toys.foreign_loops import FAMILY, batch, build_loop

# PyTorch's own remark on reentrant checkpoints whose input needs no gradient; here they often
# don't.
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")


def body(kind):
    return "layers" if kind is foreign_loops.Twins else "core"


@pytest.mark.parametrize("kind", [*FAMILY, foreign_loops.Learning])
def test_every_state_is_what_the_loop_computed(kind):
    model, x = build_loop(kind), batch()
    run = ls.record(ls.wrap(model, body=body(kind)), x)
    truth = model.truth(x)
    assert run.iterations == kind.turns
    assert run.states.shape == (kind.turns + 1, *x.shape)
    for k, state in enumerate(truth):
        assert torch.equal(run.states[k], state), f"states[{k}]"


@pytest.mark.parametrize("kind", [*FAMILY, foreign_loops.Nested, foreign_loops.Around, foreign_loops.Fused])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recording_a_wrapped_module_changes_no_output(kind, grad, dtype):
    model, x = build_loop(kind).to(dtype), batch().to(dtype)
    name = {foreign_loops.Nested: "high", foreign_loops.Fused: "layer"}.get(kind, body(kind))
    with torch.set_grad_enabled(grad):
        bare = model(x)
        run = ls.record(
            ls.wrap(model, body=name), x, sites="all", grad=grad, copy=kind is foreign_loops.InPlace or None
        )
    assert torch.equal(run.output, bare)
    assert run.output.requires_grad == (grad and bare.requires_grad)


@pytest.mark.parametrize("kind", FAMILY)
def test_patching_a_state_changes_that_state_and_nothing_before_it(kind):
    model, x = build_loop(kind), batch()
    wrapped = ls.wrap(model, body=body(kind))
    donor = ls.record(wrapped, batch(seed=2)).states[2]
    run, patched = (
        ls.record(wrapped, x),
        ls.record(wrapped, x, edits=[ls.patch(iteration=2, value=donor, position=0)]),
    )
    for k in (0, 1):
        assert torch.equal(run.states[k], patched.states[k])
    assert torch.equal(patched.states[2][:, 0], donor[:, 0])
    assert torch.equal(patched.states[2][:, 1:], run.states[2][:, 1:])
    follows = torch.tanh(
        torch.nn.functional.linear(patched.states[2], model.core.linear.weight, model.core.linear.bias)
    )
    assert torch.equal(patched.states[3], follows)
    assert not torch.equal(patched.output, run.output)


@pytest.mark.parametrize("kind", FAMILY)
def test_patching_with_its_own_states_changes_nothing(kind):
    wrapped, x = ls.wrap(build_loop(kind), body=body(kind)), batch()
    run = ls.record(wrapped, x)
    own = [ls.patch(iteration=k, value=run.states[k]) for k in range(run.iterations + 1)]
    assert torch.equal(ls.record(wrapped, x, edits=own).output, run.output)


@pytest.mark.parametrize("kind", [foreign_loops.Loop, foreign_loops.InPlace, foreign_loops.Tuple])
def test_an_iteration_is_skipped_or_repeated(kind):
    model, x = build_loop(kind), batch()
    wrapped, truth = ls.wrap(model, body="core"), model.truth(x)
    skipped = ls.record(wrapped, x, edits=[ls.skip(1)])
    assert torch.equal(skipped.states[2], truth[1]) and torch.equal(skipped.states[3], truth[2])
    repeated = ls.record(wrapped, x, edits=[ls.repeat(1)])
    assert torch.equal(repeated.states[2], truth[3]) and torch.equal(repeated.states[3], truth[4])


def test_an_inner_loop_has_an_axis_of_its_own():
    model, x = build_loop(foreign_loops.Nested), batch()
    run = ls.record(ls.wrap(model, body="high", inner={"low": "low"}), x, sites=["low", "low.linear", "high"])
    lows, highs = model.truth(x)
    assert run["low"].axes == ("iteration", "low", "batch", "position", "width")
    assert run["low"].shape == (4, 3, *x.shape) and run["low.linear"].shape == (4, 3, *x.shape)
    for t in range(4):
        assert torch.equal(run["high"][t], highs[t]) and torch.equal(run.states[t + 1], highs[t])
        for turn in range(3):
            assert torch.equal(run["low"][t, turn], lows[t][turn])


def test_an_edit_inside_an_inner_loop_changes_that_turn_and_nothing_before_it():
    wrapped, x = ls.wrap(build_loop(foreign_loops.Nested), body="high", inner={"low": "low"}), batch()
    run = ls.record(wrapped, x, sites=["low"])
    edited = ls.record(wrapped, x, sites=["low"], edits=[ls.ablate("low", iteration=2, low=1)])
    same = edited["low"].tensor == run["low"].tensor
    assert same[:2].all() and same[2, 0].all()
    assert (edited["low"][2, 1] == 0).all()
    assert not same[2, 2].all() and not same[3].all()


def test_calls_between_two_calls_of_the_body_find_their_iteration():
    model, x = build_loop(foreign_loops.Around), batch()
    run = ls.record(ls.wrap(model, body="core"), x, sites=["embed", "inject", "norm", "head"])
    e = model.embed(x)
    h = torch.zeros_like(e)
    assert torch.equal(run["embed"], e)
    for t in range(4):
        opened = model.inject(e)
        received = opened + h
        h = model.norm(model.core(received))
        assert torch.equal(run["inject"][t], opened)
        assert torch.equal(run["core_in"][t], received)
        assert torch.equal(run["norm"][t], h)
    assert torch.equal(run["head"], model.head(h))


def test_an_initial_state_that_was_never_seen_is_absent_not_guessed():
    run = ls.record(ls.wrap(build_loop(foreign_loops.Around), body="core"), batch())
    assert run.states.iterations == [1, 2, 3, 4]
    with pytest.raises(ls.LoopscopeError, match=r"'state' has no value at iteration 0"):
        run.states[0]


@pytest.mark.parametrize("kind", [foreign_loops.Checkpointed, foreign_loops.CheckpointedReentrant])
def test_gradients_pass_through_a_recording_and_recomputation_is_not_recorded(kind):
    model, x = build_loop(kind), batch().requires_grad_()
    model(x).sum().backward()
    bare, x.grad = x.grad, None
    run = ls.record(ls.wrap(model, body="core"), x, grad=True)
    run.output.sum().backward()
    assert torch.equal(x.grad, bare)
    assert run.iterations == 5 and len(run.states.iterations) == 6


def test_a_state_that_is_overwritten_cannot_be_kept_in_its_graph_and_says_so():
    with pytest.raises(ls.LoopscopeError, match=r"'state' at iteration 0 was changed in place .* copy=True"):
        ls.record(ls.wrap(build_loop(foreign_loops.InPlace), body="core"), batch(), grad=True)


def test_the_gradient_at_a_recorded_state_is_the_loops():
    model, x = build_loop(foreign_loops.Loop), batch()
    run = ls.record(ls.wrap(model, body="core"), x, grad=True)
    (gradient,) = torch.autograd.grad(run.output.sum(), run.states[3])
    later = run.states[3].detach().requires_grad_()
    (truth,) = torch.autograd.grad(model.head(model.core(model.core(later))).sum(), later)
    assert torch.equal(gradient, truth)


def test_nothing_stays_attached_also_after_an_exception():
    model, x = build_loop(foreign_loops.Loop), batch()
    wrapped = ls.wrap(model, body="core")
    ls.record(wrapped, x, sites="all")
    with pytest.raises(RuntimeError):
        ls.record(wrapped, torch.zeros(2, 3, 5), sites="all")
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and "forward" not in vars(module)


def test_recording_leaves_a_fused_path_in_place(monkeypatch):
    model, x = build_loop(foreign_loops.Fused), batch()
    name, calls = "_transformer_encoder_layer_fwd", []
    fused = getattr(torch, name)

    def counted(*args, **options):
        calls.append(1)
        return fused(*args, **options)

    monkeypatch.setattr(torch, name, counted)
    ls.record(ls.wrap(model, body="layer"), x)
    assert len(calls) == model.turns + 1  # one to see whether the output depends on the first state


def test_a_hook_that_changes_values_in_place_does_not_reach_back_into_the_recording():
    model, x = build_loop(foreign_loops.Loop), batch()

    def spoil(module, args, output):
        output.mul_(2)

    handle = model.core.linear.register_forward_hook(spoil)
    run = ls.record(ls.wrap(model, body="core"), x, sites=["core.linear"])
    handle.remove()
    assert torch.equal(run["core.linear"][0], 2 * model.core.linear(x))


def test_iterations_count_from_the_end_also_when_their_number_is_the_modules_own():
    wrapped, x = ls.wrap(build_loop(foreign_loops.Loop), body="core"), batch()
    edited = ls.record(wrapped, x, edits=[ls.ablate("state", iteration=-1)])
    assert (edited.states[5] == 0).all() and edited.states[4].any()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda m: ls.wrap(m, body="cora"),
            r"body must name a submodule, but there is no 'cora'. Did you mean 'core'\?",
        ),
        (lambda m: ls.wrap("core", body="core"), r"wrap: module must be a torch.nn.Module, but is 'core'"),
        (lambda m: ls.record(m, batch()), "with the part that repeats"),
        (
            lambda m: ls.record(ls.wrap(m, body="unused"), batch()),
            r"must be called at least once, .* called it 0 times",
        ),
        (
            lambda m: ls.record(ls.wrap(m, body="core"), batch(), iterations=3, edits=ls.skip(1)),
            r"edits are made in its own pass, but iterations=3 was passed",
        ),
        (
            lambda m: ls.record(ls.wrap(m, body="core"), batch(), edits=[ls.ablate("core", iteration=7)]),
            r"zero of 'core' at iteration=7 never applied: the loop ran 5 iterations \(0..4; states 0..5\)",
        ),
        (
            lambda m: ls.record(ls.wrap(build_loop(foreign_loops.Nested), body="high"), batch()).logits[2],
            r"wrapped by its loop body alone, and Nested can't be iterated on",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(call, text):
    model = build_loop(foreign_loops.Loop)
    model.unused = foreign_loops.Core()
    with pytest.raises(ls.LoopscopeError, match=text):
        call(model)


def test_a_tapped_forward_keeps_its_signature():
    """Others look at it: transformers' generate, TransformerLens' bridge."""
    module = torch.nn.Linear(2, 2)
    before = inspect.signature(module.forward)
    with TemporaryHooks() as taps:
        taps.attach(module, after=lambda args, kwargs, output: output)
        assert inspect.signature(module.forward) == before
    assert "forward" not in vars(module)
