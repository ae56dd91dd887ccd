"""Where plain iteration leads from many starts, and no further than that decides."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.dynamics.followed_starts import quarter_before
from loopscope.maths.jacobian import Map
from loopscope.maths.solver_rows import SolverRows, image

LONG = 4096
"""Numbers per state from which on only as many starts are followed as PASSES allow."""
PASSES = 40.0
"""What following the starts of long states may cost, in forward passes of the examples."""


@dataclass(frozen=True)
class IteratedStarts:
    """Where starts lead."""

    point: Float[Tensor, "row n"]
    """The end; NaN after an overflow."""
    converged: Bool[Tensor, " row"]
    """Whether it came to rest, or to the point where the example's own loop ends."""
    early: Float[Tensor, "row n"]
    """After as many iterations as the run has."""
    used: Int[Tensor, " row"]
    """For how many iterations it was followed; 0 after an overflow."""
    last: Float[Tensor, "row n"]
    """After as many."""
    earlier: Float[Tensor, "row n"]
    """A quarter of the most iterations before their end, where it was followed for more."""


def iterate_starts(
    every: Map,
    flat: Float[Tensor, "row n"],
    *,
    iterations: int,
    length: int,
    size: Float[Tensor, " row"],
    tolerance: float,
    goal: Float[Tensor, "row n"],
    near: Float[Tensor, " row"],
) -> IteratedStarts:
    """Iterate each start until its residual is within the tolerance, or it is near its goal and
    comes nearer.

    Arguments:
        iterations: the most.
        length: iterations of the run.
        size: what residuals are measured against.
        goal: a point that attracts; NaN where there is none.
        near: how near to it a row must be.
    """
    search = SolverRows(
        every,
        flat,
        flat,
        image(every, flat, flat),
        least=size,
        tolerance=tolerance,
        max_iterations=iterations,
    )
    arrived, early, earlier = torch.zeros_like(search.overflow), None, None
    before = (search.x - goal).norm(dim=1)
    for k in range(1, iterations + 1):
        rows = search.unfinished() & ~arrived
        if not rows.any():
            break
        search.move(search.f, rows, k)
        gap = (search.x - goal).norm(dim=1)
        arrived |= rows & (gap <= near) & (gap < before)  # false without a goal
        before = gap
        early = search.x.clone() if k == length else early
        earlier = search.x.clone() if k == quarter_before(iterations) else earlier
    converged = (search.residual() <= tolerance) & ~search.overflow
    point = torch.where((arrived & ~converged)[:, None], goal, search.x)
    nan = torch.tensor(torch.nan, dtype=flat.dtype, device=flat.device)
    lost = search.overflow[:, None]
    return IteratedStarts(
        torch.where(lost, nan, point),
        converged | arrived,
        torch.where(lost, nan, search.x if early is None else early),
        torch.where(search.overflow.cpu(), 0, search.used),
        search.x,
        search.x if earlier is None else earlier,
    )


def affordable(numbers: int, iterations: int, length: int) -> int | None:
    """How many starts per example can be followed, three at least; None: any.

    Arguments:
        numbers: in a state.
        iterations: that a start is followed for, at most.
        length: iterations of the run.
    """
    return None if numbers <= LONG else max(3, int(PASSES * length / iterations))


def taken_in_turn(kinds: Sequence[int], most: int | None) -> list[int]:
    """At most so many starts, by number, one of each kind in turn, from the last kind on.

    Arguments:
        kinds: how many starts there are of each kind, one kind after the other.
    """
    firsts = [sum(kinds[:i]) for i in range(len(kinds))]
    turns = [
        first + turn
        for turn in range(max(kinds))
        for first, count in reversed(list(zip(firsts, kinds, strict=True)))
        if turn < count
    ]
    return sorted(turns[:most])
