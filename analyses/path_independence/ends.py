"""Where a loop ends from given states, followed no further than decides."""

from collections import deque
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopscope.common.progress import tracked
from loopscope.dynamics.followed_starts import quarter_before
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.maths.precision import resolution, rounding

STEADY = 5
"""Iterations in which a row must come nearer to its goal, or rest, before it is followed no
further."""
SAFETY = 0.1
"""A row is at its goal if what is left will be this part of rounding."""


@dataclass(frozen=True)
class Ends:
    """Where trajectories end."""

    states: Float[Tensor, "*row number"]
    earlier: Float[Tensor, "*row number"]
    """The states a quarter of the iterations before."""
    overflow: int
    """The k of the first state with NaN or infinity, the start being 0; -1 if there is none."""


@dataclass(frozen=True)
class Goal:
    """A point that attracts, for each row; NaN where there is none."""

    point: Float[Tensor, "row number"]
    near: Float[Tensor, " row"]
    """How near to it a row must be for its approach to be judged."""
    radius: Float[Tensor, " row"]
    """The spectral radius there: what is left shrinks by no smaller factor."""


def run_to_end(loop: IterationMap, x: Float[Tensor, "row number"], iterations: int) -> Ends:
    """Apply the loop `iterations` times, each with its index."""
    overflow, before, earlier = -1, quarter_before(iterations), x
    steps = tracked(loop.trajectory(x, iterations), "running from other starts", iterations + 1)
    for k, y in enumerate(steps):
        x = y
        if k == before:
            earlier = x
        if overflow < 0 and not bool(x.isfinite().all()):
            overflow = k
    return Ends(x, earlier, overflow)


def follow_to_end(
    loop: IterationMap,
    begun: Ends,
    used: Int[Tensor, " row"],
    iterations: int,
    *,
    goal: Goal,
) -> Ends:
    """Apply a map that is the same in every iteration until each row was there `iterations` times,
    or rests, or comes to its goal so fast that it will be there to the last digit.

    The rate is the slowest of the last STEADY iterations, or the spectral radius where that is
    more.

    Arguments:
        begun: where the rows are; the state a quarter before the end of those that are past it.
        used: for how many iterations they were followed.
    """
    x, earlier, k = begun.states.clone(), begun.earlier.clone(), used.to(begun.states.device).clone()
    before, overflow = quarter_before(iterations), begun.overflow
    level = rounding(goal.point.norm(dim=1), resolution(x.dtype))
    gaps = deque([(x - goal.point).norm(dim=1)], STEADY + 1)
    still, done = torch.zeros_like(k), k >= iterations
    places, part = torch.arange(len(x), device=x.device), loop
    while not bool(done.all()):
        active = (~done).nonzero()[:, 0]
        if len(active) <= len(places) // 2:  # a map for fewer rows has its own cost
            places, part = active, loop.select_rows(active.tolist())
        with torch.no_grad():
            new = x.clone()
            new[places] = part(x[places])
        new = torch.where(done[:, None], x, new)
        k = torch.where(done, k, k + 1)
        finite = new.isfinite().all(1)
        if overflow < 0 and not bool(finite.all()):
            overflow = int(k[~finite].min())
        step, size = (new - x).norm(dim=1), new.norm(dim=1)
        still = torch.where(step <= rounding(size, resolution(x.dtype)), still + 1, 0)
        x = new
        earlier = torch.where((k <= before)[:, None], x, earlier)
        gaps.append((x - goal.point).norm(dim=1))
        arrived = _arrives(gaps, goal, level, (before - k).clamp(min=0)) & ~done
        x = torch.where(arrived[:, None], goal.point, x)
        earlier = torch.where((arrived & (k <= before))[:, None], goal.point, earlier)
        done = done | arrived | (still >= STEADY) | (k >= iterations) | ~finite
    return Ends(x, earlier, overflow)


def _arrives(gaps: deque[Tensor], goal: Goal, level: Tensor, left: Tensor) -> Tensor:
    """Whether rows will be at their goals, to rounding, in so many iterations; false without a
    goal."""
    if len(gaps) <= STEADY:
        return torch.zeros_like(level, dtype=torch.bool)
    path = torch.stack(list(gaps))
    rate = torch.maximum((path[1:] / path[:-1]).amax(0), goal.radius)
    return (path[-1] <= goal.near) & (rate < 1) & (path[-1] * rate**left <= SAFETY * level)
