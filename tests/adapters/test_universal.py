"""A Universal Transformer that reads stories: with its ACT, without, and wired otherwise."""

import warnings
from types import SimpleNamespace

import pytest
import torch

import loopscope as ls

from ..toys.universal_double import BabiUTransformer

FOLLOWED = ["published", "no_projection", "act", "act no_projection", "act early", "act capped"]
CAUGHT = ["scaled", "act accumulated", "act scaled"]
STORY = torch.randint(0, 20, (2, 4, 6), generator=torch.Generator().manual_seed(3))
QUERY = torch.randint(0, 20, (2, 6), generator=torch.Generator().manual_seed(4))


def built(wiring):
    torch.manual_seed(1)
    words = [word for word in wiring.split() if word not in ("published", "early")]
    return BabiUTransformer(*words, bias=1.0 if "early" in wiring else -1.5).eval()


@pytest.fixture(params=FOLLOWED, scope="module")
def case(request):
    model = built(request.param)
    with torch.no_grad():
        answer, _, act = model(STORY, QUERY)
    return SimpleNamespace(
        model=model, wrapped=ls.wrap(model), answer=answer, act=act, seen=list(model.seen), name=request.param
    )


def recorded(case, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ls.LoopscopeWarning)
        return ls.record(case.wrapped, STORY, query=QUERY, **options)


def test_a_pass_is_the_models_own_bit_for_bit(case):
    run = recorded(case)
    assert torch.equal(run.output, case.answer)
    assert torch.equal(recorded(case, sites="all").output, case.answer)
    assert case.wrapped.difference(STORY, query=QUERY) == 0
    assert run.iterations == len(case.seen) - 1
    assert (run.iterations < 5) == ("early" in case.name)
    assert all(torch.equal(run.states[k], state) for k, state in enumerate(case.seen))
    assert torch.equal(ls.resume(case.wrapped, run, run.iterations, start=1).output, case.answer)


def test_it_passes_the_self_check(case):
    result = ls.check(case.wrapped, STORY, query=QUERY)
    assert result.passed and not result.warnings, str(result)


def test_its_halting_is_the_models_own():
    for wiring in ("act", "act early"):
        model = built(wiring)
        run = ls.record(ls.wrap(model), STORY, query=QUERY)
        with torch.no_grad():
            remainder, count = model(STORY, QUERY)[2]
        assert torch.equal(run["state.remainder"][-1], remainder)
        assert torch.equal(run["state.count"][-1], count)
        assert torch.equal(run.halting.iteration, count.long() - 1)
        assert torch.equal(run.halting.halted, remainder > 0)
        mixed = (run.halting.weights[..., None] * run.states.tensor[1:]).sum(0)
        assert torch.allclose(mixed, run["state.output"][-1], atol=1e-5)
        assert bool(run.halting.halted.all()) == ("early" in wiring), "the test needs both"
    assert ls.record(ls.wrap(built("published")), STORY, query=QUERY).halting is None


def test_a_loop_of_one_iteration_passes_the_self_check_too():
    torch.manual_seed(1)
    wrapped = ls.wrap(BabiUTransformer("act", bias=9.0).eval())
    assert ls.record(wrapped, STORY, query=QUERY).iterations == 1
    result = ls.check(wrapped, STORY, query=QUERY)
    assert result.passed, str(result)
    assert "neither a later state nor the output changed" in result.row("edit of a state").reason
    assert result.row("edit in an iteration").difference == 0


def test_an_edit_changes_what_follows_and_nothing_before_it(case):
    run = recorded(case)
    edited = recorded(case, edits=[ls.add("transformer_enc.enc", iteration=1, value=1.0)])
    assert torch.equal(edited.states[1], run.states[1])
    assert torch.allclose(edited.states[2], run.states[2] + 1)
    assert not torch.equal(edited.output, run.output)


def test_the_loop_goes_on_beyond_its_depth_with_the_last_signal():
    torch.manual_seed(1)
    wrapped = ls.wrap(built("published"))
    run = ls.record(wrapped, STORY, 7, query=QUERY)
    layer = wrapped.module.transformer_enc
    assert torch.equal(run.states[5], ls.record(wrapped, STORY, query=QUERY).states[5])
    signals = layer.timing_signal[:, :5] + layer.position_signal[:, -1][:, None]
    assert torch.allclose(run.states[7], layer.enc(run.states[6] + signals), atol=1e-5)


@pytest.mark.parametrize("wiring", CAUGHT)
def test_another_wiring_is_caught(wiring):
    model = built(wiring)
    with torch.no_grad():
        answer = model(STORY, QUERY)[0]
    with pytest.warns(ls.LoopscopeWarning, match="own forward gives, but"):
        run = ls.record(ls.wrap(model), STORY, query=QUERY)
    assert torch.equal(run.output, answer)
    assert all(torch.equal(run.states[k], model.seen[k]) for k in run.states.iterations[1:])


def test_what_it_does_not_follow_is_refused_by_name():
    wrapped = ls.wrap(built("act"))
    with pytest.raises(ls.LoopscopeError, match=r"takes no \['temperature'\]"):
        ls.record(wrapped, STORY, query=QUERY, temperature=2.0)
    model = built("act")
    del model.transformer_enc.act_fn, model.transformer_enc.enc
    with pytest.raises(ls.LoopscopeError, match="a BabiUTransformer must have.*but lacks enc, act_fn"):
        ls.wrap(model)
