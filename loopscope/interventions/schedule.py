"""Edits of the schedule: iterations skipped, repeated or swapped."""

from dataclasses import dataclass

from ..common.errors import LoopscopeError
from .compound_edit import CompoundEdit, UpdateSites


@dataclass(frozen=True)
class ScheduleEdit:
    """How often an iteration runs, and the iteration index that the model receives in it."""

    iteration: int
    times: int
    """0 skips it."""
    iteration_index: int | None = None
    """None: the running iteration."""

    def __str__(self) -> str:
        if self.iteration_index is not None:
            return f"run iteration {self.iteration_index} in place of {self.iteration}"
        if not self.times:
            return f"skip iteration {self.iteration}"
        return f"run iteration {self.iteration} {self.times} times"


@dataclass(frozen=True)
class Swap(CompoundEdit):
    """Two iterations that run in each other's place."""

    first: int
    second: int

    def expand(
        self, fields: tuple[str, ...] = (), update_sites: UpdateSites | None = None
    ) -> list[ScheduleEdit]:
        """Two edits of the schedule."""
        return [ScheduleEdit(self.first, 1, self.second), ScheduleEdit(self.second, 1, self.first)]

    def __str__(self) -> str:
        return f"swap iterations {self.first} and {self.second}"


def skip(iteration: int) -> ScheduleEdit:
    """Leave an iteration out: states[t+1] = states[t], and the sites inside have no value at t.

    >>> ls.record(model, tokens, edits=[ls.skip(5)])

    Arguments:
        iteration: t; negative ones count from the end.
    """
    return ScheduleEdit(iteration, 0)


def repeat(iteration: int, times: int = 2) -> ScheduleEdit:
    """Run an iteration several times, each time on the state that the last time gave. The sites
    inside it get an axis `call`.

    >>> ls.record(model, tokens, edits=[ls.repeat(3, times=4)])

    Arguments:
        iteration: t; negative ones count from the end.
        times: how often; 0 skips the iteration.

    Raises:
        LoopscopeError: `times` is no whole number of 0 or more.
    """
    if isinstance(times, bool) or not isinstance(times, int) or times < 0:
        raise LoopscopeError(f"times must be a whole number, 0 or more, but is {times!r}.")
    return ScheduleEdit(iteration, times)


def swap(first: int, second: int) -> Swap:
    """Run two iterations in each other's place: at `first` the model receives the iteration index
    `second`, and the reverse.

    >>> ls.record(model, tokens, edits=[ls.swap(2, 5)])

    States and sites stay in the order in which they are computed. The run of a loop whose
    iterations are all the same map (no step code, no weights of single iterations) doesn't change.

    Arguments:
        first, second: iterations t; negative ones count from the end.

    Raises:
        LoopscopeError: they are no whole numbers.
    """
    for number in (first, second):
        if isinstance(number, bool) or not isinstance(number, int):
            raise LoopscopeError(
                f"swap needs two iterations, whole numbers, but got {first!r} and {second!r}."
            )
    return Swap(first, second)
