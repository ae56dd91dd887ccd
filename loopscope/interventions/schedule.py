"""Edits of the schedule: iterations skipped, repeated or swapped.

Edits of one run compose like this. Swaps apply in the order in which they are listed, each on what
the earlier ones made: after `[swap(1, 2), swap(2, 3)]` iterations 1, 2, 3 receive the indices 2, 3,
1. An iteration is skipped or repeated once at most, and one that is swapped isn't: what else could
be meant in two ways is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..common.arguments import Count, Index
from ..common.errors import LoopscopeError
from ..common.guard import guarded


@dataclass(frozen=True)
class ScheduleEdit:
    """How often an iteration runs."""

    iteration: int
    times: int
    """0 skips it."""

    @property
    def iterations(self) -> tuple[int, ...]:
        """The iterations that it changes."""
        return (self.iteration,)

    def __str__(self) -> str:
        if not self.times:
            return f"skip iteration {self.iteration}"
        return f"run iteration {self.iteration} {self.times} times"


@dataclass(frozen=True)
class Swap:
    """Two iterations that run in each other's place."""

    first: int
    second: int

    @property
    def iterations(self) -> tuple[int, ...]:
        """The iterations that it changes."""
        return self.first, self.second

    def __str__(self) -> str:
        return f"swap iterations {self.first} and {self.second}"


class Schedule(NamedTuple):
    """The schedule of a run, as `loopscope.core.looped_model.unroll` takes it."""

    times: Mapping[int, int]
    """By iteration: how often it runs, where not once."""
    iteration_index: Mapping[int, int]
    """By iteration: the iteration index that the model receives in place of its own."""

    @property
    def skipped(self) -> list[int]:
        """The iterations that don't run."""
        return [iteration for iteration, times in self.times.items() if not times]


def composed(edits: Sequence[ScheduleEdit | Swap], size: int) -> Schedule:
    """The schedule that several edits make together, in their order.

    Arguments:
        size: the number of iterations, for those that count from the end.

    Raises:
        LoopscopeError: two edits of one iteration that could be meant in two ways.
    """
    by_iteration: dict[int, ScheduleEdit | Swap] = {}
    times: dict[int, int] = {}
    received: dict[int, int] = {}
    for edit in edits:
        places = [place + size if place < 0 else place for place in edit.iterations]
        for place in dict.fromkeys(places):
            other = by_iteration.setdefault(place, edit)
            if other is not edit and not (isinstance(edit, Swap) and isinstance(other, Swap)):
                raise LoopscopeError(
                    f"an iteration must be skipped or repeated once at most, and not be swapped too, but "
                    f"iteration {place} has two edits: {other}, and {edit}. Leave one of them out."
                )
        if isinstance(edit, Swap):
            first, second = places
            before = received.get(first, first), received.get(second, second)
            received[second], received[first] = before
        else:
            times[places[0]] = edit.times
    return Schedule(times, received)


@guarded
def repeat(iteration: Index, times: Count = 2) -> ScheduleEdit:
    """Run an iteration several times, each time on the state that the last time gave. The sites
    inside it get an axis `call`.

    >>> ls.record(model, tokens, edits=[ls.repeat(3, times=4)])

    Arguments:
        iteration: t; negative ones count from the end.
        times: how often; 0 skips the iteration.

    Raises:
        LoopscopeError: they are no whole numbers, or `times` is below 0; else as for `skip`. When
            recorded: the body of a wrapped module has a cache, into which each call would write.
    """
    return ScheduleEdit(iteration, times)


@guarded
def swap(first: Index, second: Index) -> Swap:
    """Run two iterations in each other's place: at `first` the model receives the iteration index
    `second`, and the reverse.

    >>> ls.record(model, tokens, edits=[ls.swap(2, 5)])

    States and sites stay in the order in which they are computed. The run of a loop whose
    iterations are all the same map (no step code, no weights of single iterations) doesn't change.
    Several swaps apply one after the other, as permutations of the places: each exchanges what its
    two places hold by then, so that every iteration index runs once. After `[swap(1, 2), swap(2,
    3)]` the places 1, 2, 3 receive 2, 3, 1.

    Arguments:
        first, second: iterations t; negative ones count from the end.

    Raises:
        LoopscopeError: they are no whole numbers; else as for `skip`.
    """
    return Swap(first, second)
