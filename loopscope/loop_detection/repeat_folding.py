"""Repeats: a row of calls folded into what comes again and again, loops inside loops."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from .call_trace import Call


@dataclass(frozen=True)
class Node:
    """One call, or a stretch that comes again."""

    key: Hashable
    """Equal for the same module, and for stretches of the same parts, however often each comes."""
    call: Call | None = None
    turns: tuple[tuple["Node", ...], ...] = ()
    """What came in each turn, if this is a stretch."""

    def calls(self) -> Iterator[Call]:
        """Every call in it, in order."""
        if self.call is not None:
            yield self.call
        for turn in self.turns:
            for node in turn:
                yield from node.calls()


def folded(calls: Sequence[Call], longest: int = 1024) -> list[Node]:
    """The calls with everything that comes twice or more in a row folded up, the shortest repeats
    first.

    A B B B A B B is folded to 2 x (A, some B): stretches are the same whatever their numbers of
    turns, also where there is only one. A last turn that was begun and not finished stays outside.

    Arguments:
        longest: the most parts a turn may have.
    """
    nodes = [Node(call.key, call) for call in calls]
    period = 1
    while period <= min(len(nodes) // 2, longest):
        result = _first(nodes, period)
        if result is None:
            period += 1
        else:
            nodes, period = _fold(nodes, result, period), 1
    return nodes


def _first(nodes: Sequence[Node], period: int) -> int | None:
    """Where the first `period` nodes stand that come again right after."""
    run = 0
    for i in range(len(nodes) - period):
        run = run + 1 if nodes[i].key == nodes[i + period].key else 0
        if run == period:
            return i - period + 1
    return None


def _fold(nodes: Sequence[Node], start: int, period: int) -> list[Node]:
    unit = tuple(node.key for node in nodes[start : start + period])
    folded: list[Node] = []
    i = 0
    while i < len(nodes):
        turns: list[tuple[Node, ...]] = []
        while tuple(node.key for node in nodes[i : i + period]) == unit:
            turns.append(tuple(nodes[i : i + period]))
            i += period
        if turns:
            folded.append(Node(("again", unit), turns=tuple(turns)))
        else:
            folded.append(nodes[i])
            i += 1
    return folded
