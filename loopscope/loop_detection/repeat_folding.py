"""Fold a sequence of calls into consecutive repeats, nested where loops are nested."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from .call_trace import Call


@dataclass(frozen=True)
class CallGroup:
    """One call, or a sequence of calls that repeats."""

    key: Hashable
    """Equal for calls of the same module, and for repeats of the same sequence, however many there
    are."""
    call: Call | None = None
    repeats: tuple[tuple["CallGroup", ...], ...] = ()
    """The groups of each repeat; empty for one call."""

    def calls(self) -> Iterator[Call]:
        """Every call in it, in order."""
        if self.call is not None:
            yield self.call
        for repeat in self.repeats:
            for group in repeat:
                yield from group.calls()


def fold_repeats(calls: Sequence[Call], longest: int = 1024) -> list[CallGroup]:
    """The calls with everything that comes twice or more in a row folded, the shortest sequences
    first.

    A B B B A B B is folded to 2 x (A, some B): the number of repeats doesn't matter, also where
    there is only one. An incomplete last repeat stays outside.

    Arguments:
        longest: the largest number of groups in a repeat.
    """
    groups = [CallGroup(call.key, call) for call in calls]
    period = 1
    while period <= min(len(groups) // 2, longest):
        result = _first_repeat(groups, period)
        if result is None:
            period += 1
        else:
            groups, period = _fold(groups, result, period), 1
    return groups


def _first_repeat(groups: Sequence[CallGroup], period: int) -> int | None:
    """The index of the first `period` groups that are followed by the same groups."""
    run = 0
    for i in range(len(groups) - period):
        run = run + 1 if groups[i].key == groups[i + period].key else 0
        if run == period:
            return i - period + 1
    return None


def _fold(groups: Sequence[CallGroup], start: int, period: int) -> list[CallGroup]:
    unit = tuple(group.key for group in groups[start : start + period])
    folded: list[CallGroup] = []
    i = 0
    while i < len(groups):
        repeats: list[tuple[CallGroup, ...]] = []
        while tuple(group.key for group in groups[i : i + period]) == unit:
            repeats.append(tuple(groups[i : i + period]))
            i += period
        if repeats:
            folded.append(CallGroup(("again", unit), repeats=tuple(repeats)))
        else:
            folded.append(groups[i])
            i += 1
    return folded
