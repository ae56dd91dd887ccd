"""The fixed points of a run's examples: the one where the loop ends, others, rates and
reachability."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.common.arguments import Count, Positive, PositiveCount, Seed
from loopscope.common.evidence import Estimate, by_examples, estimate, share_estimate
from loopscope.dynamics.followed_starts import remember_starts
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.limit_point import Limit, continue_to_limit
from loopscope.dynamics.outcome import EXAMPLES, Outcome, end_radii, outcomes
from loopscope.maths.leading_directions import leading_directions
from loopscope.runs.run import Run
from loopscope.runs.run_mask import require_counted, rows_that_count

from .basins import Basins, explore, merge_lengths, starts
from .convergence_times import reached_from, times_and_rates_by_position
from .input_dependence import input_dependence
from .iterated_starts import affordable
from .result import MERGE_DISTANCE, RESIDUAL_TOLERANCE, FixedPointsResult, FixedPointsVerdict


# It is long because its options, with what they mean, are many.
def measure(
    run: Run,
    *,
    examples: PositiveCount = EXAMPLES,
    extra: Count | None = None,
    perturbed: Count = 2,
    exchanged: Count = 4,
    random: Count = 12,
    most: PositiveCount | None = None,
    perturbation: Positive = 0.1,
    merge_distance: Positive = MERGE_DISTANCE,
    tolerance: Positive = RESIDUAL_TOLERANCE,
    spectra: Count | None = None,
    double: bool = True,
    seed: Seed = 0,
) -> FixedPointsResult:
    """Find where the loop of a run ends, and which fixed points its map has.

    Arguments:
        examples: how many of the run's examples that count somewhere, from the first on.
        extra: iterations beyond the run; None: as many as it has, 96 at least.
        perturbed, exchanged, random: starts per example of each kind, besides one near zero: its
            own end, perturbed; the ends of other examples; normal numbers of their size.
        most: starts per example, one of each kind in turn; None: all, or of states of more than
            4,096 numbers as many as 40 forward passes allow.
        perturbation: size of the perturbations, relative to the state's norm.
        merge_distance: points nearer than this, relative to their size, are one.
        tolerance: the residual below which plain iteration has converged.
        spectra: for how many points besides those at which the examples end the spectral radius is
            computed; None: all where states have 128 numbers or fewer, else none.
        double: compute in double precision where the model allows it.
        seed: of perturbations and random starts.

    Raises:
        LoopscopeError: the run kept no whole states, can't be iterated, or an option is out of
            range.
    """
    require_counted(run)
    extra = max(96, run.iterations) if extra is None else extra
    counted = rows_that_count(run)[:examples]
    rows = range(len(counted))
    loop, limit = continue_to_limit(run, counted, extra, double)
    numbers, followed = limit.states.shape[2], len(limit.states) - 1
    if most is None:
        most = affordable(numbers, followed, max(1, limit.run_end - limit.first))
    others = starts(
        loop,
        limit,
        perturbed,
        random,
        exchanged=exchanged,
        perturbation=perturbation,
        seed=seed,
        most=most,
    )
    every_start = perturbed + min(exchanged, len(counted) - 1) + 1 + random
    radius = end_radii(loop, limit, merge_distance)
    # A loop that receives the iteration index has no single map to solve.
    basins = (
        explore(loop, limit, others, tolerance, radius, merge_distance=merge_distance, spectra=spectra)
        if loop.is_time_invariant
        else None
    )
    if basins is not None:
        remember_starts(run, counted, double, basins.followed)
    ends = outcomes(limit, radius, at=merge_distance)
    verdicts = tuple(
        _verdict(ends[row], basins, row) if basins else FixedPointsVerdict.iteration_dependent for row in rows
    )
    verdict, evidence = by_examples(
        verdicts,
        mixed=FixedPointsVerdict.mixed,
        unclear=FixedPointsVerdict.unclear,
        unresolved=FixedPointsVerdict.unresolved,
    )
    converged = torch.tensor([end == "converged" for end in ends]) & (basins is not None)
    numbers = _times_and_rates(loop, limit, converged, merge_distance)
    reads_input, dependence = input_dependence(loop, limit, converged)
    return FixedPointsResult(
        verdict=verdict,
        evidence=replace(evidence, estimates=_estimates(converged, numbers["rate"]) if basins else ()),
        verdicts=verdicts,
        rows=tuple(counted),
        outcomes=ends,
        radius=radius,
        **numbers,
        **_points(limit, basins),
        reads_input=reads_input,
        input_dependence=dependence,
        distance=limit.distance.float().cpu(),
        overflow=limit.overflow,
        starts=others.shape[1],
        first=limit.first,
        continuation=limit.how + _left_out(others.shape[1], every_start),
        merge_distance=merge_distance,
        tolerance=tolerance,
        perturbation=perturbation,
    )


def _left_out(followed: int, every: int) -> str:
    """How many starts weren't followed, as a sentence; empty if none."""
    if followed == every:
        return ""
    return f" Of {every} other starts per example {followed} were followed (most={every} follows all)."


def _estimates(converged: Bool[Tensor, " example"], rate: Float[Tensor, " example"]) -> tuple[Estimate, ...]:
    """The share of examples that end at a fixed point, and the median of their fitted rates."""
    share = share_estimate(
        "share of examples that end at a fixed point", int(converged.sum()), len(converged)
    )
    known = rate[converged & ~rate.isnan()]
    if not len(known):
        return (share,)
    name = "fitted contraction rate of an example's distance to its fixed point, median"
    return share, estimate(name, lambda draw: float(known[draw].quantile(0.5)), len(known))


def _verdict(end: Outcome, basins: Basins, row: int) -> FixedPointsVerdict:
    ends: dict[Outcome, FixedPointsVerdict] = {
        "growing": FixedPointsVerdict.diverging,
        "unresolved": FixedPointsVerdict.unresolved,
        "unstable": FixedPointsVerdict.unstable,
        "approaching": FixedPointsVerdict.approaching,
        "moving": FixedPointsVerdict.none,
        "elsewhere": FixedPointsVerdict.none,
    }
    if end != "converged":
        return ends[end]
    others = [point for point in basins.points if point.example == row and not point.ends_here]
    if any(point.visits > 0 and point.stable is not False for point in others):
        return FixedPointsVerdict.several
    return FixedPointsVerdict.one if bool(basins.same_end[row].all()) else FixedPointsVerdict.local


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


def _points(limit: Limit, basins: Basins | None) -> dict[str, Any]:
    """The fixed points, and the trajectories in the plane that shows both; fields as in the
    result."""
    points, project = basins.points if basins else (), _projection(limit)
    rows = range(len(limit.point))
    nan = float("nan")
    return {
        "solver_distance": basins.solver_distance if basins else torch.full((len(rows),), nan),
        "points": tuple(replace(point, coordinates=tuple(project(point.state).tolist())) for point in points),
        "reachability": basins.reachability if basins else nan,
        "trajectories": torch.nan_to_num(project(limit.states.transpose(0, 1)), 0.0, 0.0, 0.0),
    }


def _projection(limit: Limit) -> Callable[[Float[Tensor, "*rows width"]], Float[Tensor, "*rows 2"]]:
    """The projection onto the two directions in which the examples' states vary most."""
    width = limit.states.shape[2]
    states = limit.states[:, ~limit.diverges].reshape(-1, width)
    if not len(states):
        states = torch.nan_to_num(limit.states[:2].reshape(-1, width), 0.0, 0.0, 0.0)
    states = states[:: max(1, len(states) // 1000)].double()
    mean = states.mean(0)
    found, _ = leading_directions(states - mean, 2)
    axes = torch.zeros(2, width, dtype=states.dtype, device=states.device)
    axes[: len(found)] = found
    return lambda x: ((x.to(mean) - mean) @ axes.T).float().cpu()
