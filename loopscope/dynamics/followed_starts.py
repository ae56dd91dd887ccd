"""FollowedStarts: how far an analysis has followed the loop from other starts, so that the next one
goes on from there."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..runs.run import Run


@dataclass(frozen=True, eq=False)
class FollowedStarts:
    """Starts of some examples, and where each of them has been followed to."""

    starts: Float[Tensor, "example start width"]
    iterations: Int[Tensor, "example start"]
    """How many each was followed for; 0 after an overflow."""
    states: Float[Tensor, "example start width"]
    """After as many."""
    earlier: Float[Tensor, "example start width"]
    """After `before` iterations, of those that were followed for more."""
    before: int

    def of(self, starts: Float[Tensor, "example start width"], iterations: int) -> "FollowedStarts":
        """The same of other starts, which are to be followed for so many iterations. Those that
        aren't among these haven't been followed."""
        before = quarter_before(iterations)
        used = torch.zeros(starts.shape[:2], dtype=torch.int64)
        states, earlier = starts.clone(), starts.clone()
        for row, column, place in self._equal(starts):
            k = int(self.iterations[row, place])
            if 0 < k <= before or (k and before == self.before and k <= iterations):
                used[row, column], states[row, column] = k, self.states[row, place]
                earlier[row, column] = self.earlier[row, place]
        return FollowedStarts(starts, used, states, earlier, before)

    def _equal(self, starts: Tensor) -> list[tuple[int, int, int]]:
        """(example, start, number of the equal one among these)."""
        pairs = []
        for row, (given, ours) in enumerate(zip(starts, self.starts, strict=True)):
            same: Bool[Tensor, "start start"] = torch.stack([(one == ours).all(1) for one in given])
            pairs += [(row, int(i), int(j)) for i, j in same.nonzero().tolist()]
        return pairs


def quarter_before(iterations: int) -> int:
    """The k a quarter of the iterations before their end."""
    return iterations - max(1, iterations // 4)


def remember_starts(run: Run, rows: Sequence[int], double: bool, followed: FollowedStarts) -> None:
    """Keep how far starts of these examples were followed, in a map that is the same in every
    iteration. Nothing may be written into them.

    Arguments:
        rows: the examples, by number.
        double: whether double precision was tried.
    """
    run.memory.keep(("starts", tuple(rows), double), followed)


def iterations_followed(run: Run, rows: Sequence[int], double: bool = True) -> int:
    """How many iterations of single starts of these examples needn't run again; arguments as of
    `remember_starts`."""
    known: FollowedStarts | None = run.memory.recall(("starts", tuple(rows), double))
    return 0 if known is None else int(known.iterations.sum())


def begun_starts(
    run: Run, rows: Sequence[int], double: bool, starts: Float[Tensor, "example start width"], iterations: int
) -> FollowedStarts:
    """How far these starts have been followed already, by whoever did; arguments as of
    `remember_starts`.

    Arguments:
        iterations: that they are to be followed for.
    """
    known: FollowedStarts | None = run.memory.recall(("starts", tuple(rows), double))
    if known is None or known.starts.shape[::2] != starts.shape[::2]:
        none = torch.zeros(starts.shape[:2], dtype=torch.int64)
        return FollowedStarts(starts, none, starts, starts, quarter_before(iterations))
    return known.of(starts, iterations)
