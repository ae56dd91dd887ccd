"""The fixed points of a run's examples: the one where the loop ends, others, rates and
reachability."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.common.arguments import Count, Positive, PositiveCount, Seed
from loopscope.common.evidence import by_examples
from loopscope.common.rng import mixed
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.limit_point import Limit, continue_to_limit
from loopscope.runs.run import Run
from loopscope.runs.run_mask import require_counted, rows_that_count

from .basins import Basins, FixedPoint, explore, merge_lengths, starts
from .convergence_times import reached_from, times_and_rates_by_position
from .input_dependence import input_dependence
from .result import MERGE_DISTANCE, RESIDUAL_TOLERANCE, FixedPointsResult, FixedPointsVerdict

LARGE_STATE = 1000
"""States of so many numbers are followed for 4 examples instead of 8."""
_APPROACHING = 0.9
"""A loop approaches its fixed point if the distance falls below this fraction of itself in the
second half of the iterations."""
_CONSTANT = 1e-6
"""A distance that falls by a smaller fraction than this is constant."""
_DEGENERATE = 1e12
"""A point whose ‖(I - J)^-1‖ is larger may be a drift that rounding has stopped."""


# It is long because its options, with what they mean, are many.
def measure(
    run: Run,
    *,
    examples: PositiveCount | None = None,
    extra: Count | None = None,
    perturbed: Count = 2,
    random: Count = 4,
    perturbation: Positive = 0.1,
    merge_distance: Positive = MERGE_DISTANCE,
    tolerance: Positive = RESIDUAL_TOLERANCE,
    spectra: Count | None = None,
    double: bool = True,
    seed: Seed = 0,
) -> FixedPointsResult:
    """Find where the loop of a run ends, and which fixed points its map has.

    Arguments:
        examples: how many of the run's examples that count somewhere, from the first on; None: 8,
            or 4 where a state has 1,000 numbers or more.
        extra: iterations beyond the run; None: as many as it has, 96 at least.
        perturbed, random: starts of each kind per example, besides another example's end and zero.
        perturbation: size of the perturbations, relative to the state's norm.
        merge_distance: points nearer than this, relative to their size, are one.
        tolerance: the residual below which plain iteration has converged.
        spectra: for how many points the spectral radius is computed; None: all where states have
            128 numbers or fewer, else 2.
        double: compute in double precision where the model allows it.
        seed: of perturbations and random starts.

    Raises:
        LoopscopeError: the run kept no whole states, can't be iterated, or an option is out of
            range.
    """
    if examples is None:
        examples = 8 if _numbers(run) < LARGE_STATE else 4
    require_counted(run)
    extra = max(96, run.iterations) if extra is None else extra
    counted = rows_that_count(run)[:examples]
    rows = range(len(counted))
    loop, limit = continue_to_limit(run, counted, extra, double)
    others = starts(loop, limit, perturbed, random, perturbation=perturbation, seed=mixed(seed, 1))
    # A loop that receives the iteration index has no single map to solve.
    basins = (
        explore(loop, limit, others, tolerance, merge_distance=merge_distance, spectra=spectra)
        if loop.is_time_invariant
        else None
    )
    verdicts = tuple(
        _verdict(limit, basins, row, merge_distance) if basins else FixedPointsVerdict.iteration_dependent
        for row in rows
    )
    verdict, evidence = by_examples(
        verdicts,
        mixed=FixedPointsVerdict.mixed,
        unclear=FixedPointsVerdict.unclear,
        unresolved=FixedPointsVerdict.unresolved,
    )
    converged = _converged(verdicts)
    reads_input, dependence = input_dependence(loop, limit, converged)
    return FixedPointsResult(
        verdict=verdict,
        evidence=evidence,
        verdicts=verdicts,
        **_times_and_rates(loop, limit, converged, merge_distance),
        **_points(limit, basins, merge_distance),
        reads_input=reads_input,
        input_dependence=dependence,
        distance=limit.distance.float().cpu(),
        overflow=limit.overflow,
        starts=others.shape[1],
        first=limit.first,
        continuation=limit.how,
        merge_distance=merge_distance,
        tolerance=tolerance,
        perturbation=perturbation,
    )


def _numbers(run: Run) -> int:
    """How many numbers the state of an example has, at the positions that count."""
    return math.prod(run.states.shape[2:]) * int(run.mask.sum(1).max()) // run.mask.shape[1]


def _converged(verdicts: Sequence[FixedPointsVerdict]) -> Bool[Tensor, " example"]:
    """Which examples end at a fixed point."""
    kinds = (FixedPointsVerdict.one, FixedPointsVerdict.several, FixedPointsVerdict.local)
    return torch.tensor([verdict in kinds for verdict in verdicts])


def _verdict(limit: Limit, basins: Basins, row: int, merge_distance: float) -> FixedPointsVerdict:
    if bool(limit.diverges[row]):
        return FixedPointsVerdict.diverging if limit.started[row] else FixedPointsVerdict.unresolved
    if not limit.resolved[row]:
        return FixedPointsVerdict.unresolved
    points = [point for point in basins.points if point.example == row]
    end = next((point for point in points if _is_end(point, limit, merge_distance)), None)
    near = merge_lengths(limit, merge_distance)[row]
    if end is not None and bool(limit.distance[row] * limit.scale[row] <= near):
        if end.stable is False:
            return FixedPointsVerdict.unstable
        if any(point is not end and point.visits > 0 and point.stable is not False for point in points):
            return FixedPointsVerdict.several
        return FixedPointsVerdict.one if bool(basins.same_end[row].all()) else FixedPointsVerdict.local
    if end is not None and end.stable is not False:
        gaps, quarter = limit.distances(row), max(1, len(limit.states) // 4)
        # the largest of a quarter, as chaos comes near to a point now and then
        fall = float(gaps[-quarter:].max()) / float(gaps[len(gaps) // 2 :][:quarter].max())
        shrinks = fall < 1 - _CONSTANT
        if shrinks and (end.stable or limit.rate(row).points or fall < _APPROACHING):
            return FixedPointsVerdict.approaching
    # Where I - J is singular, a drift that rounding has stopped looks like a fixed point.
    regular = any(point.condition < _DEGENERATE for point in points)
    return FixedPointsVerdict.unstable if regular else FixedPointsVerdict.none


def _is_end(point: FixedPoint, limit: Limit, merge_distance: float) -> bool:
    """Whether this is the fixed point nearest to the end of its example's loop."""
    gap = (point.state.to(limit.point) - limit.point[point.example]).norm()
    return bool(gap <= merge_lengths(limit, merge_distance)[point.example])


def _times_and_rates(
    loop: IterationMap, limit: Limit, converged: Bool[Tensor, " example"], merge_distance: float
) -> dict[str, Any]:
    """When, how fast and how closely each example converges; fields as in the result."""
    rates = [limit.rate(row) for row in range(len(converged))]
    reached = reached_from(limit.states - limit.point, merge_lengths(limit, merge_distance), limit.first)
    by_position, rate_by_position = times_and_rates_by_position(loop, limit, merge_distance)
    last = limit.states[limit.run_end - limit.first]
    step = (limit.states[min(limit.run_end - limit.first + 1, len(limit.states) - 1)] - last).norm(dim=1)
    return {
        "reached": torch.where(converged, reached, -1),
        "reached_by_position": loop.on_positions(torch.where(converged[:, None], by_position, -1), -1),
        "rate": torch.tensor([rate.value for rate in rates]),
        "rate_error": torch.tensor([rate.error for rate in rates]),
        "rate_by_position": loop.on_positions(rate_by_position),
        "rate_sentence": rates[0].sentence,
        "residual": torch.where(step == 0, step, step / last.norm(dim=1)).float().cpu(),
    }


def _points(limit: Limit, basins: Basins | None, merge_distance: float) -> dict[str, Any]:
    """The fixed points, and the trajectories in the plane that shows both; fields as in the
    result."""
    points, project = basins.points if basins else (), _projection(limit)
    rows = range(len(limit.point))
    nan = float("nan")
    return {
        "solver_distance": basins.solver_distance if basins else torch.full((len(rows),), nan),
        "points": tuple(replace(point, coordinates=tuple(project(point.state).tolist())) for point in points),
        "reachability": basins.reachability if basins else nan,
        "radius": torch.tensor([_end_radius(points, limit, row, merge_distance) for row in rows]),
        "trajectories": torch.nan_to_num(project(limit.states.transpose(0, 1)), 0.0, 0.0, 0.0),
    }


def _end_radius(points: Sequence[FixedPoint], limit: Limit, row: int, merge_distance: float) -> float:
    """The spectral radius at the fixed point where an example ends; NaN without one."""
    radii = (p.radius for p in points if p.example == row and _is_end(p, limit, merge_distance))
    return next(radii, float("nan"))


def _projection(limit: Limit) -> Callable[[Float[Tensor, "*rows width"]], Float[Tensor, "*rows 2"]]:
    """The projection onto the two directions in which the examples' states vary most."""
    width = limit.states.shape[2]
    states = limit.states[:, ~limit.diverges].reshape(-1, width)
    if not len(states):
        states = torch.nan_to_num(limit.states[:2].reshape(-1, width), 0.0, 0.0, 0.0)
    states = states[:: max(1, len(states) // 1000)].double()
    mean = states.mean(0)
    _, _, v = torch.linalg.svd(states - mean, full_matrices=False)
    axes = torch.zeros(2, width, dtype=states.dtype, device=states.device)
    axes[: len(v[:2])] = v[:2]
    return lambda x: ((x.to(mean) - mean) @ axes.T).float().cpu()
