"""A recording keeps what `keep=` selects, and no more."""

import pytest
import torch

import loopscope as ls

SITE = "core.0.hook_resid_post"


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ls.models.build("universal", vocabulary=3, width=8, heads=2).eval()


@pytest.fixture
def tokens():
    return torch.randint(0, 3, (2, 5), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def whole(model, tokens):
    return ls.record(model, tokens, iterations=10, sites=[SITE])


def kept(model, tokens, keep):
    return ls.record(model, tokens, iterations=10, sites=[SITE], keep=keep)


def test_every_third(model, tokens, whole):
    run = kept(model, tokens, ls.keep.every(3))
    assert run.states.iterations == [0, 3, 6, 9] and run[SITE].iterations == [0, 3, 6, 9]
    assert torch.equal(run.states[6], whole.states[6]) and torch.equal(run.logits[6], whole.logits[6])
    with pytest.raises(ls.LoopscopeIndexError, match=r"no value at iteration 4: .* not kept"):
        run.states[4]


def test_the_last_three(model, tokens, whole):
    run = kept(model, tokens, ls.keep.last(3))
    assert run.states.iterations == [8, 9, 10] and run[SITE].iterations == [7, 8, 9]
    assert torch.equal(run.states[-1], whole.states[-1])


def test_some_positions(model, tokens, whole):
    run = kept(model, tokens, ls.keep.positions([-1, 0]))
    assert torch.equal(run.states.tensor, whole.states.tensor[:, :, [-1, 0]])
    with pytest.raises(ls.LoopscopeError, match=r"kept only in part \(keep=positions\(\(-1, 0\)\)\)"):
        run.logits[3]
    assert torch.equal(run.logits[-1], whole.logits[-1]), "the output itself is always there"


def test_only_norms(model, tokens, whole):
    run = kept(model, tokens, ls.keep.norms)
    assert run.states.axes == ("iteration", "batch", "position")
    assert torch.equal(run.states.tensor, whole.states.tensor.norm(dim=-1))


def test_any_reduction_and_any_combination(model, tokens, whole):
    mean = ls.keep.reduce(lambda value: value.mean(1))
    run = kept(model, tokens, ls.keep.every(5) & mean & ls.keep.positions([1, 2]))
    assert run.states.iterations == [0, 5, 10]
    assert torch.allclose(run.states[5], whole.states[5][:, [1, 2]].mean(1))


def test_a_run_that_was_thinned_can_be_resumed_from_what_it_kept(model, tokens, whole):
    run = kept(model, tokens, ls.keep.every(3))
    assert torch.equal(ls.resume(model, run, 10, start=6).output, whole.output)
    with pytest.raises(ls.LoopscopeError, match="kept only in part"):
        ls.resume(model, kept(model, tokens, ls.keep.norms), 12)


def test_a_part_does_not_hold_on_to_its_whole(model, tokens):
    run = kept(model, tokens, ls.keep.positions(0))
    for _, value in run.states.items():
        assert value.untyped_storage().nbytes() == value.nbytes


def test_a_view_of_a_larger_tensor_does_not_hold_on_to_it(model, tokens):
    run = ls.record(model, tokens, iterations=2, sites=["core.0.attn.hook_v"])
    for _, value in run["core.0.attn.hook_v"].items():
        assert value.untyped_storage().nbytes() == value.nbytes


def test_under_inference_mode_values_are_copied(model, tokens, whole):
    with torch.inference_mode():
        run = ls.record(model, tokens, iterations=10, sites=[SITE])
    assert torch.equal(run.states.tensor, whole.states.tensor)


@pytest.mark.parametrize(
    "make", [lambda: ls.keep.every(0), lambda: ls.keep.last(-1), lambda: ls.keep.every(2.5)]
)
def test_nonsense_is_refused(make):
    with pytest.raises(ls.LoopscopeError, match="must be a whole number, 1 or more"):
        make()


def test_a_reduction_that_adds_axes_is_refused(model, tokens):
    with pytest.raises(ls.LoopscopeError, match=r"keep.reduce must turn a tensor with axes .* into a tensor"):
        kept(model, tokens, ls.keep.reduce(lambda value: value[None]))
