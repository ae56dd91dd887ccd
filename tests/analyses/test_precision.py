"""Whatever dtype the states are recorded in, and beside whatever constant: a verdict is the true
one, or the one that says that the precision can't tell. Never another one."""

import functools

import pytest
import torch

import loopscope as ls

from ..toys.planted_loops import DTYPES, FATES, OFFSETS, planted_run

CYCLES = ("cycle of 2", "cycle of 3", "cycle of 5")
CHAOS = ("logistic chaos", "Hénon chaos")
DRIFTS = ("slow drift", "drift on a line")
RESTS = ("fixed point", "spiral")

# By analysis: the verdicts that are true of each group of loops
TRUE: dict[str, dict[tuple[str, ...], set[str]]] = {
    "cycles": {
        RESTS: {"fixed_point"},
        DRIFTS: {"drifting", "slider"},
        (*CYCLES, "rotation"): {"orbit"},
        ("torus",): {"torus"},
        CHAOS: {"irregular"},
        ("divergence",): {"diverging"},
    },
    "convergence": {
        RESTS: {"settled", "late"},
        DRIFTS: {"moving", "growing"},
        (*CYCLES, "rotation", "torus", *CHAOS): {"moving"},
        ("divergence",): {"growing"},
    },
    "path_independence": {
        RESTS: {"independent"},
        (*DRIFTS, *CYCLES, "rotation", "torus", *CHAOS): {"restless"},
        ("divergence",): {"diverging"},
    },
    "stability": {
        RESTS: {"stable", "transient"},
        (*DRIFTS, "rotation", "torus"): {"neutral"},
        CYCLES: {"contracting"},
        CHAOS: {"expanding"},
        ("divergence",): {"diverging"},
    },
    "fixed_points": {
        RESTS: {"one", "local"},
        (*DRIFTS, *CYCLES, "rotation", "torus", *CHAOS): {"none", "unstable"},
        ("divergence",): {"diverging"},
    },
}
OPTIONS: dict[str, dict] = {
    "stability": {"examples": 1, "count": 1, "exponents_count": 1, "iterations": 200, "gain": 1},
    "fixed_points": {"examples": 1, "perturbed": 1, "random": 1},
    "path_independence": {"examples": 3, "exchanged": 2, "random": 2},
}
QUICK = ("cycles", "convergence", "geometry")
LOOPS = ("fixed point", "slow drift", "cycle of 3", "torus", "logistic chaos", "divergence")
CELLS = [(dtype, offset) for dtype in DTYPES for offset in OFFSETS]
CORNERS = [CELLS[0], CELLS[3], *CELLS[6:10], *CELLS[10::3]]


@functools.cache
def verdict_of(analysis: str, loop: str, dtype: torch.dtype, offset: float | str) -> str:
    run = planted_run(loop, dtype, offset)
    if run.first_nonfinite() is not None:
        return "unresolved"  # beyond the range of the dtype, which the analyses refuse
    return ls.analyses.measure(analysis, run, **OPTIONS.get(analysis, {})).verdict.name


def true_verdicts(analysis: str, loop: str) -> set[str]:
    if analysis == "geometry" and loop in CHAOS:  # three vectors on an attractor, by chance
        return {"steady", "widening", "narrowing"}
    if analysis == "geometry":  # as in double precision without a constant
        return {verdict_of(analysis, loop, torch.float64, 0.0)}
    (found,) = [verdicts for loops, verdicts in TRUE[analysis].items() if loop in loops]
    return found


def wrong_cells(analysis: str, loop: str, cells: list) -> list[str]:
    """The cells with another verdict; where the numbers are fine enough, also the undecided
    ones."""
    wrong = []
    for dtype, offset in cells:
        verdict = verdict_of(analysis, loop, dtype, offset)
        fine = dtype is torch.float64 or (dtype is torch.float32 and offset in (0, 1))
        if verdict not in true_verdicts(analysis, loop) | (set() if fine else {"unresolved", "unclear"}):
            wrong.append(f"{dtype}, beside {offset}: {verdict}")
    return wrong


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("analysis", QUICK)
def test_a_verdict_is_true_or_says_that_the_precision_cannot_tell(analysis, loop):
    assert wrong_cells(analysis, loop, CORNERS) == []


@pytest.mark.slow
@pytest.mark.parametrize("loop", [loop for loop in FATES if loop not in LOOPS])
@pytest.mark.parametrize("analysis", QUICK)
def test_the_same_of_the_other_loops(analysis, loop):
    assert wrong_cells(analysis, loop, CORNERS) == []


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("analysis", ["path_independence", "stability", "fixed_points"])
def test_a_verdict_from_the_map_is_true_or_says_that_the_precision_cannot_tell(analysis, loop):
    assert wrong_cells(analysis, loop, CORNERS[::3]) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_trained_slider_is_never_a_fixed_point(dtype):
    model = ls.models.load("recall-plain").to(dtype)
    run = ls.record(model, model.task.batch(4, seed=0).tokens)
    cycles = ls.analyses.measure("cycles", run)
    coarse = {"slider", "unclear"}  # torch's kernels for bfloat16 differ from version to version
    assert cycles.verdict.name in ({"slider"} if dtype is torch.float32 else coarse)
    assert "fixed_point" not in cycles.evidence.support
    assert cycles.shares["fixed_point"] == 0
    assert ls.analyses.measure("convergence", run).verdict.name == "growing"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_map_of_its_own_dtype_has_no_more_points_than_its_grid_tells_apart(dtype):
    """The matrix is of the dtype, so that the map can't be put in double precision."""
    matrix = (0.5 * torch.eye(4) + 0.1).to(dtype)
    run = ls.iterate(lambda x: torch.tanh(x @ matrix + 0.3), torch.randn(2, 4).to(dtype), 48)
    found = ls.analyses.measure("fixed_points", run, spectra=0)
    assert found.verdict.name == "unresolved"
    assert len(found.points) <= 2  # one in each example
    options = {"stability": {"iterations": 10, "count": 1, "gain": 1}}
    for analysis in ("stability", "path_independence", "cycles", "convergence"):
        result = ls.analyses.measure(analysis, run, **options.get(analysis, {}))
        assert result.verdict.name == "unresolved"


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_that_changes_by_rounding_is_settled_only_where_that_is_small(dtype):
    model = ls.models.load("universal-prefix-parity").to(dtype)
    run = ls.record(model, model.task.batch(4, seed=0).tokens)
    fine = dtype in (torch.float64, torch.float32)
    expected = {"settled", "late"} if fine else {"settled", "late", "unresolved"}
    assert ls.analyses.measure("attention", run).verdict.name in expected
