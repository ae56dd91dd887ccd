"""Where the loop ends from other starts, example by example, and the verdict."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.arguments import Count, Positive, PositiveCount, Seed, Share
from loopscope.common.errors import LoopscopeError
from loopscope.common.evidence import Estimate, by_examples, estimate, share_interval
from loopscope.core.masked import masked_mean
from loopscope.dynamics.followed_starts import FollowedStarts, begun_starts
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.limit_point import Limit, continue_to_limit
from loopscope.dynamics.other_starts import other_starts
from loopscope.dynamics.outcome import EXAMPLES, MARGIN, Outcome, end_radii, outcomes
from loopscope.maths.precision import motion_scale
from loopscope.runs.run import Run
from loopscope.runs.run_mask import require_counted, rows_that_count

from .alignment import StartKind, alignment_by_position, compare, contrast_of
from .ends import Goal
from .result import PathIndependenceResult, PathIndependenceVerdict
from .starts import Restart, adversarial_starts

ALIGNED, NEAR, REST = 0.99, 1e-3, 0.01


# It is long because it lists every option and every field of the result.
def measure(
    run: Run,
    *,
    examples: PositiveCount = EXAMPLES,
    exchanged: Count = 4,
    random: Count = 12,
    adversarial: Count = 0,
    iterations: PositiveCount | None = None,
    aligned: Share = ALIGNED,
    near: Positive = NEAR,
    resting: Positive = REST,
    double: bool = True,
    seed: Seed = 0,
) -> PathIndependenceResult:
    """Whether the loop of a run reaches the same end from other starts.

    Arguments:
        examples: how many of the run's examples that count somewhere, from the first on.
        exchanged: number of other examples whose ends are starts; all others if there are fewer.
        random: random starts per example.
        adversarial: steps of gradient ascent on 1 - cosine of one random start per example; 0 for
            no adversarial starts.
        iterations: run from each start; None: the run's and as many again, 96 more at least. No
            fewer than the run's.
        aligned, near, resting: thresholds; see the result.
        double: compute in double precision where the model allows it.
        seed: of the random starts.

    Raises:
        LoopscopeError: there is no example, fewer iterations than the run's, or a negative number
            of starts.
    """
    require_counted(run)
    counted, last = rows_that_count(run)[:examples], run.states.iterations[-1]
    iterations = last + max(96, run.iterations) if iterations is None else iterations
    if iterations < last:
        raise LoopscopeError(
            f"iterations must be no fewer than the run's, {last}, but is {iterations}. Leave it out for 96 "
            "more than the run's or twice as many."
        )
    loop, limit = continue_to_limit(run, counted, iterations - last, double)
    radius, invariant = end_radii(loop, limit), loop.is_time_invariant
    ends = outcomes(limit, radius)
    finals = limit.states[-1]
    origin = loop.at(0, run) if run.states.iterations[0] == 0 else loop.starts
    goal = _goal(limit, radius) if invariant and loop.is_deterministic else None
    restart = Restart(loop, origin, loop.start_mask(), iterations, goal)
    begun = partial(begun_starts, run, counted, double, iterations=iterations)
    starts = other_starts(loop, limit, exchanged=exchanged, random=random, seed=seed)
    step, rest = _last_step(loop, limit, finals, iterations, ends)
    kinds, by_position, overflow = _kinds(restart, begun, finals, starts, step=step)
    if adversarial:
        first = other_starts(loop, limit, exchanged=0, random=1, seed=seed)["random"]
        attack = adversarial_starts(restart, finals, first, adversarial)
        attacked = restart.run(begun(restart.starts(attack)))
        kinds.append(compare("adversarial", loop, finals, attacked, away=restart.away(attack), step=step))
    verdicts = tuple(
        _verdict(end, kinds, row, aligned, near=near, resting=resting) for row, end in enumerate(ends)
    )
    verdict, evidence = by_examples(
        verdicts,
        mixed=PathIndependenceVerdict.mixed,
        unclear=PathIndependenceVerdict.unclear,
        unresolved=PathIndependenceVerdict.unresolved,
    )
    means = {kind.name: kind.mean for kind in kinds}
    own_overflow = [int(k) for k in limit.overflow if k >= 0]
    return PathIndependenceResult(
        verdict=verdict,
        evidence=replace(evidence, estimates=(_share_of_starts(kinds, aligned, near),)),
        verdicts=verdicts,
        rows=tuple(counted),
        outcomes=ends,
        alignment=next((means[name] for name in ("exchanged", "random", "zero") if name in means), math.nan),
        kinds=tuple(kinds),
        by_position=_mean_by_position(loop, by_position),
        contrast=contrast_of(loop.primary(finals).flatten(1)),
        rest=rest,
        overflow=min(own_overflow, default=overflow),
        examples=len(counted),
        iterations=iterations,
        iteration_index=not invariant,
        precision=limit.precision,
        aligned=aligned,
        near=near,
        resting=resting,
    )


def _goal(limit: Limit, radius: Float[Tensor, " example"]) -> Goal:
    """The points that attract, where examples end."""
    attracts = (radius < 1 - MARGIN).to(limit.point.device)  # false for NaN
    point = torch.where(attracts[:, None], limit.point, torch.nan)
    return Goal(point, NEAR * limit.scale, radius.to(point))


def _kinds(
    restart: Restart,
    begun: Callable[[Tensor], FollowedStarts],
    ends: Tensor,
    starts: Mapping[str, Tensor],
    *,
    step: Tensor,
) -> tuple[list[StartKind], Float[Tensor, "example start position"], int]:
    """The results of each kind of start, their cosines to the end by position, and the k of the
    first overflow, -1 if there is none."""
    kinds, by_position, overflows = [], [], []
    for name, values in starts.items():
        results = restart.run(begun(restart.starts(values)))
        kinds.append(compare(name, restart.loop, ends, results, away=restart.away(values), step=step))
        by_position.append(alignment_by_position(restart.loop, ends, results.states))
        overflows.append(results.overflow)
    return kinds, torch.cat(by_position, 1), min((k for k in overflows if k >= 0), default=-1)


def _mean_by_position(
    loop: IterationMap, values: Float[Tensor, "example start counted"]
) -> Float[Tensor, " position"]:
    """The mean over examples and starts, by the positions of the run; NaN where none counts."""
    counted = loop.on_positions(torch.ones_like(values), 0.0).bool().cpu()
    return masked_mean(loop.on_positions(values).float().cpu(), counted, (0, 1))


def _last_step(
    loop: IterationMap, limit: Limit, finals: Tensor, iterations: int, ends: tuple[Outcome, ...]
) -> tuple[Float[Tensor, " example"], float]:
    """(the size of one more iteration after each end, 0 where it has converged; the largest
    relative one)."""
    with torch.no_grad():
        change = loop.primary(loop(finals, iterations) - finals).flatten(1).norm(dim=1)
    norm = loop.primary(finals).flatten(1).norm(dim=1)
    span = (limit.states - limit.states[:1]).norm(dim=2).amax(0)
    scale = motion_scale(norm, torch.where(span > 0, span, norm))
    ratio = torch.where(change == 0, change, change / scale)
    still = torch.tensor([end in ("converged", "unstable") for end in ends], device=change.device)
    return torch.where(still, torch.zeros_like(change), change), float(ratio.max())


def _share_of_starts(kinds: list[StartKind], aligned: float, near: float) -> Estimate:
    """The share of starts that reach the same end. Those of one example are no independent trials,
    so the interval is no narrower than that of as many trials as there are examples."""
    same = torch.cat([kind.same(aligned, near) for kind in kinds], 1).double().mean(1)
    drawn = estimate(
        "share of other starts that reach the same end", lambda draw: float(same[draw].mean()), len(same)
    )
    low, high = share_interval(round(float(same.sum())), len(same))
    lows, highs = [v for v in (low, drawn.low) if v == v], [v for v in (high, drawn.high) if v == v]
    return replace(drawn, low=min(lows, default=math.nan), high=max(highs, default=math.nan))


def _verdict(
    end: Outcome, kinds: list[StartKind], row: int, aligned: float, *, near: float, resting: float
) -> PathIndependenceVerdict:
    """The verdict on one example, which ends so."""
    if end == "growing":
        return PathIndependenceVerdict.diverging
    if end == "unresolved":
        return PathIndependenceVerdict.unresolved
    same = {kind.name: bool(kind.same(aligned, near)[row].all()) for kind in kinds}
    if all(same.values()):
        return PathIndependenceVerdict.independent
    if end == "approaching":
        return PathIndependenceVerdict.approaching
    if end not in ("converged", "unstable"):
        return PathIndependenceVerdict.restless
    if all(same[name] for name in same if name != "adversarial"):
        return PathIndependenceVerdict.attacked
    other = any(bool(kind.elsewhere(aligned, near, resting)[row].any()) for kind in kinds)
    return PathIndependenceVerdict.dependent if other else PathIndependenceVerdict.restless
