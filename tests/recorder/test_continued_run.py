"""What analyses compute from one run is computed once, and nobody's writing into it reaches the
next."""

import copy
import gc
import pickle
import weakref

import pytest
import torch

import loopscope as ls
from loopscope.dynamics.limit_point import continue_to_limit
from loopscope.recorder.continued_run import continued_run
from loopscope.recorder.extend import continue_run
from tests.toys.counted_steps import counted_steps

ROWS, N = 3, 4
SITE = "core.0.hook_resid_post"


@pytest.fixture(scope="module")
def model():
    options = {
        "vocabulary": 5,
        "width": 8,
        "heads": 2,
        "step_code": "none",
        "injection": "add",
        "iterations": N,
    }
    return ls.models.build("universal", seed=1, norm="post", **options).eval()


def recorded(model, **options) -> ls.Run:
    tokens = torch.randint(0, 5, (ROWS, 4), generator=torch.Generator().manual_seed(0))
    return ls.record(model, tokens, N, **options)


@pytest.mark.parametrize("lengths", [(6, 9, 12), (12, 9, 6), (9, 12, 6)])
def test_continuations_cost_the_iterations_of_the_longest_and_equal_a_resumed_run(model, lengths):
    run = recorded(model)
    with counted_steps(model) as steps:
        results = [continued_run(run, n) for n in lengths]
    assert steps.rows == ROWS * (12 - N)
    for n, result in zip(lengths, results, strict=True):
        resumed = ls.resume(model, run, n)
        assert result.iterations == n and result.states.iterations == resumed.states.iterations
        assert torch.equal(result.states.tensor, resumed.states.tensor)
        assert torch.equal(result.logits[n], resumed.logits[n])


def test_a_continuation_has_the_sites_that_are_needed_and_no_others(model):
    run = recorded(model, sites=[SITE, "core.0.hook_resid_mid"])
    assert continued_run(run, 6).names == ["state"]
    with counted_steps(model) as steps:
        result = continued_run(run, 8, [SITE])
        assert set(result.names) == {"state", SITE} and result[SITE].iterations == list(range(8))
        continued_run(run, 7)
        continued_run(run, 6, [SITE])
    assert steps.rows == ROWS * (8 - N)


def test_what_was_written_into_is_computed_anew(model):
    run = recorded(model)
    first = continued_run(run, 8)
    expected = first.states.tensor.clone()
    first.states[7].zero_()
    assert torch.equal(continued_run(run, 8).states.tensor, expected)
    _, limit = continue_to_limit(run, [0, 1], 6)
    point = limit.point.clone()
    limit.point.fill_(0.5)
    assert torch.equal(continue_to_limit(run, [0, 1], 6)[1].point.nan_to_num(), point.nan_to_num())
    run.states[N].mul_(2.0)
    assert not torch.equal(continued_run(run, 8).states.tensor[-1], expected[-1])


def test_weights_that_changed_are_refused_though_the_result_is_remembered(model):
    changed = copy.deepcopy(model)
    run = recorded(changed)
    _ = continued_run(run, 8), continue_to_limit(run, None, 6)
    with torch.no_grad():
        next(changed.parameters()).add_(1.0)
    for ask in (lambda: continued_run(run, 8), lambda: continue_to_limit(run, None, 6)):
        with pytest.raises(ls.LoopscopeError, match="changed"):
            ask()


def test_a_run_recorded_again_for_its_layers_serves_whoever_needs_them(model):
    run = recorded(model)
    with counted_steps(model) as steps:
        long = continue_run(run, 8, [SITE, "core.0.hook_resid_mid"]).run
        short, other = continue_run(run, 5, [SITE]), continue_run(run, 8, [SITE], examples=2)
    assert steps.rows == (ROWS + 2) * (N + 8)
    assert short.run.iterations == N + 5 and len(other.run.tokens) == 2
    assert torch.equal(short.run[SITE].tensor, long[SITE][: N + 5].tensor)


def test_a_limit_asked_for_longer_goes_on_from_the_shorter_one(model):
    run = recorded(model)
    loop, short = continue_to_limit(run, [0, 2], 6)
    again, longer = continue_to_limit(run, [0, 2], 9)
    assert again is loop
    fresh = continue_to_limit(recorded(model), [0, 2], 9)[1]
    for name in ("states", "point", "distance", "residual", "size"):
        assert torch.equal(getattr(longer, name).nan_to_num(), getattr(fresh, name).nan_to_num()), name
    assert torch.equal(longer.states[: len(short.states)], short.states)


FEW = {
    "fixed_points": {"perturbed": 0, "exchanged": 0, "random": 1},
    "path_independence": {"exchanged": 0, "random": 1},
    "stability": {"iterations": 10, "gain": 1},
}


def test_analyses_of_the_map_cost_less_together_and_give_the_numbers_they_give_alone(model):
    run = recorded(model)

    def dictionary(name, run):
        return ls.analyses.measure(name, run, examples=1, double=False, **FEW[name]).to_dict()

    with counted_steps(model) as together:
        results = {name: dictionary(name, run) for name in FEW}
    runs = {name: recorded(model) for name in FEW}
    with counted_steps(model) as alone:
        for name, other in runs.items():
            assert dictionary(name, other) == results[name]
    shared = N + 96  # the continued states of one example, which two of three needn't compute
    assert alone.rows - together.rows >= 2 * shared


def test_what_is_remembered_is_freed_with_its_run_and_stays_behind_when_the_run_travels(model):
    run = recorded(model)
    later = weakref.ref(continued_run(run, 8).states[8])
    limit = weakref.ref(continue_to_limit(run, None, 6)[1])
    for other in (pickle.loads(pickle.dumps(run)), copy.deepcopy(run), run.with_mask(run.mask)):
        assert other.memory.recall("continuations") is None
    assert later() is not None and limit() is not None
    del run, other
    gc.collect()
    assert later() is None and limit() is None
