"""Feedback: which of the parts that come round in a loop carry its state from one iteration to the
next."""

from collections import Counter
from itertools import accumulate
from operator import or_
from typing import NamedTuple

from .call_trace import Call
from .repeat_folding import Node

Turn = tuple[Node, ...]
"""What comes in one round of a loop."""


class Item(NamedTuple):
    """What one module calls, with those that run once and hold something repeated opened up."""

    call: Call
    repeated: bool
    opened: bool


def items_of(scope: Call) -> list[Item]:
    """The calls in one call, in order: the outermost that come again, and between them those that
    come once."""
    counts = Counter(call.key for call in scope.tree())
    items: list[Item] = []

    def visit(call: Call) -> None:
        again = counts[call.key] > 1
        opened = not again and any(counts[inner.key] > 1 for inner in call.tree())
        items.append(Item(call, again, opened))
        if opened:
            for child in call.children:
                visit(child)

    for child in scope.children:
        visit(child)
    return items


def with_light(turns: list[Turn], items: list[Item]) -> list[Turn]:
    """The turns, with the small parts that open or close each of them: a norm, an injection."""
    starts = [next(turn[0].calls()).bit for turn in turns]
    keys = {call.key for turn in turns for node in turn for call in node.calls()}
    gaps: dict[int, list[tuple[int, Call]]] = {}
    for item in items:
        if item.repeated and item.call.key not in keys:
            gaps.setdefault(item.call.key, []).append(
                (sum(start < item.call.bit for start in starts), item.call)
            )
    ends = [max(call.bit for node in turn for call in node.calls()) for turn in turns]
    opening: list[list[Call]] = [[] for _ in turns]
    closing: list[list[Call]] = [[] for _ in turns]
    for result in gaps.values():
        outside = all(gap == 0 or call.bit > ends[gap - 1] for gap, call in result)
        if outside and [gap for gap, _ in result] == list(range(len(turns))):
            for gap, call in result:
                opening[gap].append(call)
        elif outside and [gap for gap, _ in result] == list(range(1, len(turns) + 1)):
            for gap, call in result:
                closing[gap - 1].append(call)

    def nodes(calls: list[Call]) -> Turn:
        return tuple(Node(call.key, call) for call in sorted(calls, key=lambda call: call.bit))

    return [(*nodes(opening[t]), *turn, *nodes(closing[t])) for t, turn in enumerate(turns)]


def levels_of(turns: list[Turn]) -> list[int]:
    """How many turns each one builds on, itself included: 1, 2, 3 ... in a loop; 1, 1 if two inputs
    go through apart."""
    bits, levels = [_bits(turn) for turn in turns], []
    for t, turn in enumerate(turns):
        reads = _reads(turn)
        levels.append(1 + max((levels[s] for s in range(t) if reads & bits[s]), default=0))
    return levels


def carrying(turns: list[Turn], levels: list[int]) -> list[Turn]:
    """The turns without what has no part in carrying the state: read-outs, gates, what only reads
    the input."""
    places, last = list(range(len(turns[0]))), max(levels)
    while places:
        kept = [tuple(turn[q] for q in places) for turn in turns]
        before = list(accumulate((_bits(turn) for turn in kept), or_, initial=0))
        after = list(accumulate((_reads(turn) for turn in reversed(kept)), or_, initial=0))[-2::-1]

        def carries(q: int, before: list[int] = before, after: list[int] = after) -> bool:
            return all(
                (levels[t] == 1 or _reads((turn[q],)) & before[t])
                and (levels[t] == last or _bits((turn[q],)) & after[t])
                for t, turn in enumerate(turns)
            )

        idle = next((q for i, q in enumerate(places) if not carries(q) or _aside(kept[0], i)), None)
        if idle is None:
            return kept
        places.remove(idle)
    return []


def _aside(turn: Turn, place: int) -> bool:
    """Whether a part stands beside the road, such as a gate: it gives nothing of the state's shape
    or that another takes."""
    mine = list(turn[place].calls())
    others = [call for i, node in enumerate(turn) if i != place for call in node.calls()]
    main = max([*mine, *others], key=_size)
    gives = {shape for call in mine for shape in call.gives}
    taken = {shape for call in others for shape in call.takes}
    return bool(others and gives) and main not in mine and not gives & (taken | main.gives)


def _size(call: Call) -> int:
    return sum(p.numel() for p in call.module.parameters())


def _reads(turn: Turn) -> int:
    reads = 0
    for node in turn:
        for call in node.calls():
            reads |= call.reads
    return reads


def _bits(turn: Turn) -> int:
    return sum(call.bit for node in turn for call in node.calls())
