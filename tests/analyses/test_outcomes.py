"""Where each example ends: stability, fixed points and path independence judge the same examples by
the same states, and never contradict each other."""

import functools
import math
import warnings
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import loopscope as ls
from loopscope.analyses.fixed_points.basins import Basins, FixedPoint  # pyright: ignore[reportMissingImports]
from loopscope.analyses.fixed_points.measure import _verdict as of_points  # pyright: ignore[reportMissingImports]
from loopscope.analyses.fixed_points.result import FixedPointsVerdict  # pyright: ignore[reportMissingImports]
from loopscope.analyses.path_independence.alignment import StartKind  # pyright: ignore[reportMissingImports]
from loopscope.analyses.path_independence.measure import _verdict as of_path  # pyright: ignore[reportMissingImports]
from loopscope.analyses.path_independence.result import PathIndependenceVerdict  # pyright: ignore[reportMissingImports]
from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.fate import can_both_hold
from loopscope.dynamics.followed_starts import FollowedStarts
from loopscope.dynamics.outcome import Outcome

from ..toys.planted_loops import FATES, planted_run

DOUBLE = torch.float64
ANALYSES = ("stability", "fixed_points", "path_independence")
OPTIONS: dict[str, dict] = {"stability": {"iterations": 200, "gain": 1}, "fixed_points": {"random": 2}}
FEW = 4
"""Examples of a planted loop, of which all go the same way."""
AT_POINT = {"stable", "transient", "marginal"}
# by verdict of fixed points on an example: those of stability and of path independence that can
# stand beside it
BESIDE: dict[str, tuple[set[str], set[str]]] = {
    "one": (AT_POINT, {"independent"}),
    "several": (AT_POINT, {"dependent", "independent", "restless"}),
    "local": (AT_POINT, {"restless", "dependent"}),
    "approaching": (AT_POINT, {"approaching", "independent"}),
    "unstable": ({"unstable"}, {"dependent", "restless"}),
    "none": ({"contracting", "neutral", "expanding"}, {"restless", "independent"}),
    "diverging": ({"diverging"}, {"diverging"}),
}


def results_of(run: ls.Run, **options: int) -> dict[str, AnalysisResult]:
    return {name: ls.analyses.measure(name, run, **OPTIONS.get(name, {}), **options) for name in ANALYSES}


def assert_agreement(results: dict) -> None:
    stability, points, path = (results[name] for name in ANALYSES)
    assert stability.rows == points.rows == path.rows
    assert stability.outcomes == points.outcomes == path.outcomes
    assert stability.fates == points.fates == path.fates
    for one, other, another in zip(points.verdicts, stability.verdicts, path.verdicts, strict=True):
        beside_stability, beside_path = BESIDE[one.name]
        assert other.name in beside_stability
        assert another.name in beside_path
    radius, ends = stability.radius, torch.tensor(stability.at_fixed_point)
    assert torch.allclose(points.radius.double()[ends], radius[ends], rtol=1e-5)


@functools.cache
def planted(name: str) -> dict[str, AnalysisResult]:
    return results_of(planted_run(name, DOUBLE, 0.0), examples=FEW)


@pytest.mark.parametrize("name", FATES)
def test_at_planted_loops_all_say_the_same_of_the_same_examples(name):
    results = planted(name)
    assert_agreement(results)
    fate = FATES[name][1]
    for result in results.values():
        assert result.verdict.name not in ("unclear", "mixed", "unresolved", "contradictory")
        assert all(can_both_hold(said, fate) for said in result.fates.values())
        if fate in ("converges", "grows"):
            assert result.fates == dict.fromkeys(result.rows, fate)


@pytest.mark.parametrize("name", FATES)
def test_they_contradict_neither_convergence_nor_cycles(name):
    run = planted_run(name, DOUBLE, 0.0)
    others = [ls.analyses.measure(a, run).fates for a in ("convergence", "cycles")]
    for result in planted(name).values():
        assert all(can_both_hold(fate, other[row]) for row, fate in result.fates.items() for other in others)


def several_fates(x: Tensor) -> Tensor:
    """Below 0 a fixed point at -1, between 0 and 1 a cycle of two, above 2 growth."""
    return torch.where(x < 0, -1 + 0.5 * (x + 1), torch.where(x <= 1, 3.2 * x * (1 - x), 1.1 * x))


def test_examples_of_several_fates_are_told_apart_in_one_batch():
    start = torch.cat([torch.linspace(-3, -0.5, 4), torch.linspace(0.2, 0.6, 4), torch.linspace(3, 4, 4)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ls.LoopscopeWarning)
        run = ls.iterate(several_fates, start.double()[:, None], 48)
    results = results_of(run)
    assert_agreement(results)
    fates = dict(enumerate(["converges"] * 4 + ["moves"] * 4 + ["grows"] * 4))
    for result in results.values():
        assert result.verdict.name == "mixed"
        assert result.fates == fates
    verdicts = [v.name for v in results["stability"].verdicts]
    assert verdicts == ["stable"] * 4 + ["contracting"] * 4 + ["diverging"] * 4


@pytest.mark.parametrize("examples", [1, 12])
def test_two_basins_are_path_dependence_and_several_points(examples):
    start = torch.linspace(-1, 1, 12, dtype=DOUBLE)[:examples, None].expand(-1, 3)
    results = results_of(ls.iterate(lambda x: torch.tanh(2 * x), start, 48))
    assert_agreement(results)
    verdicts = [results[name].verdict.name for name in ANALYSES]
    assert verdicts == ["stable", "several", "dependent"]
    assert set(results["path_independence"].fates.values()) == {"converges"}


def test_a_slow_approach_is_neither_rest_nor_motion():
    results = results_of(ls.iterate(lambda x: 0.995 * x + 1, torch.zeros(3, 2, dtype=DOUBLE), 32))
    assert_agreement(results)
    assert set(results["stability"].outcomes) == {"approaching"}
    assert [results[name].verdict.name for name in ANALYSES] == ["stable", "approaching", "approaching"]
    assert all(set(result.fates.values()) == {"approaches"} for result in results.values())


def test_chaos_that_passes_by_a_fixed_point_is_not_at_it():
    """4x(1 - x) from a start whose 30th image lies within 1e-5 of the fixed point 3/4."""
    x = torch.tensor(0.75 + 1e-5, dtype=DOUBLE)
    signs = torch.randint(0, 2, (30,), generator=torch.Generator().manual_seed(0)) * 2 - 1
    signs[0] = -1  # the other inverse image of 3/4 is 3/4 itself
    for sign in signs:
        x = (1 + sign * (1 - x).sqrt()) / 2  # an inverse image
    run = ls.iterate(lambda x: 4 * x * (1 - x), x.reshape(1, 1), 20)
    result = ls.analyses.measure("stability", run, extra=10, iterations=200, gain=1)
    assert abs(float(ls.iterate(lambda x: 4 * x * (1 - x), x.reshape(1, 1), 30).states[30]) - 0.75) < 1e-4
    assert result.outcomes[0] in ("moving", "elsewhere")
    assert result.verdict.name == "expanding"


def test_every_verdict_of_fixed_points_and_path_independence_on_an_example_is_reached():
    """By hand: from an outcome and the ends of other starts."""

    end = FixedPoint(0, True, True, 0.5, 0.0, 1.0, 3, 0, (0.0, 0.0), torch.zeros(1))

    def basins(same: bool, **other) -> Basins:
        points = (end, replace(end, ends_here=False, **other)) if other else (end,)
        x = torch.zeros(1, 1, 1)
        followed = FollowedStarts(x, torch.ones(1, 1, dtype=torch.long), x, x, 1)
        return Basins(points, torch.tensor([[same]]), torch.zeros(1), followed, 1.0)

    ends = ("unstable", "approaching", "moving", "elsewhere", "growing", "unresolved")
    points = {of_points(outcome, basins(True), 0).name for outcome in ends}
    points |= {of_points("converged", basins(same), 0).name for same in (True, False)}
    points.add(of_points("converged", basins(False, visits=1, stable=None), 0).name)
    assert of_points("converged", basins(False, visits=1, stable=False), 0).name == "local"
    assert of_points("converged", basins(True, visits=0, stable=True), 0).name == "one"
    expected = {v.name for v in FixedPointsVerdict} - {"mixed", "unclear", "iteration_dependent"}
    assert points == expected

    def kind(name: str, gap: float, moved: float) -> StartKind:
        one, none = torch.ones(1, 1), torch.zeros(1, 1)
        return StartKind(name, one, none, gap * one, none.bool(), moved * one)

    def verdict(end: Outcome, *kinds: StartKind) -> str:
        return of_path(end, list(kinds), 0, 0.99, near=1e-3, resting=0.01).name

    same, other, moving = kind("zero", 0.0, 0.0), kind("zero", 1.0, 0.0), kind("zero", 1.0, 0.5)
    path = {
        verdict("converged", same),
        verdict("converged", other),
        verdict("converged", moving),
        verdict("converged", same, kind("adversarial", 1.0, 0.0)),
        verdict("growing", same),
        verdict("unresolved", same),
        verdict("approaching", other),
    }
    assert path == {v.name for v in PathIndependenceVerdict} - {"mixed", "unclear"}
    assert verdict("converged", kind("zero", math.nan, math.nan)) == "dependent"  # it overflows
    assert verdict("moving", other) == "restless" and verdict("approaching", other) == "approaching"
    assert verdict("moving", same) == "independent"
