"""Data flow between repeats: which of the repeated parts carry a loop's state from one iteration to
the next."""

from collections import Counter
from itertools import accumulate
from operator import or_
from typing import NamedTuple

from .call_trace import Call
from .repeat_folding import CallGroup

Repeat = tuple[CallGroup, ...]
"""The calls of one iteration of a loop."""


class ScopeCall(NamedTuple):
    """A call in the scope of another. Calls that run once and hold repeated ones are expanded."""

    call: Call
    repeated: bool
    expanded: bool


def calls_in_scope(scope: Call) -> list[ScopeCall]:
    """The calls in one call, in order: the outermost repeated calls, and between them those that
    run once."""
    counts = Counter(call.key for call in scope.descendants())
    items: list[ScopeCall] = []

    def visit(call: Call) -> None:
        repeated = counts[call.key] > 1
        expanded = not repeated and any(counts[inner.key] > 1 for inner in call.descendants())
        items.append(ScopeCall(call, repeated, expanded))
        if expanded:
            for child in call.children:
                visit(child)

    for child in scope.children:
        visit(child)
    return items


def with_small_parts(repeats: list[Repeat], items: list[ScopeCall]) -> list[Repeat]:
    """The repeats, with the small parts that begin or end each of them: a norm, an injection."""
    starts = [next(repeat[0].calls()).bit for repeat in repeats]
    keys = {call.key for repeat in repeats for group in repeat for call in group.calls()}
    gaps: dict[int, list[tuple[int, Call]]] = {}
    for item in items:
        if item.repeated and item.call.key not in keys:
            gaps.setdefault(item.call.key, []).append(
                (sum(start < item.call.bit for start in starts), item.call)
            )
    ends = [max(call.bit for group in repeat for call in group.calls()) for repeat in repeats]
    opening: list[list[Call]] = [[] for _ in repeats]
    closing: list[list[Call]] = [[] for _ in repeats]
    for result in gaps.values():
        outside = all(gap == 0 or call.bit > ends[gap - 1] for gap, call in result)
        if outside and [gap for gap, _ in result] == list(range(len(repeats))):
            for gap, call in result:
                opening[gap].append(call)
        elif outside and [gap for gap, _ in result] == list(range(1, len(repeats) + 1)):
            for gap, call in result:
                closing[gap - 1].append(call)

    def groups(calls: list[Call]) -> Repeat:
        return tuple(CallGroup(call.key, call) for call in sorted(calls, key=lambda call: call.bit))

    return [(*groups(opening[t]), *repeat, *groups(closing[t])) for t, repeat in enumerate(repeats)]


def dependency_depths(repeats: list[Repeat]) -> list[int]:
    """The length of the chain of repeats that each one depends on, itself included: 1, 2, 3 ... in
    a loop; 1, 1 for two independent inputs."""
    bits, depths = [_bits(repeat) for repeat in repeats], []
    for t, repeat in enumerate(repeats):
        dependencies = _dependencies(repeat)
        depths.append(1 + max((depths[s] for s in range(t) if dependencies & bits[s]), default=0))
    return depths


def state_carrying(repeats: list[Repeat], depths: list[int]) -> list[Repeat]:
    """The repeats without the parts that don't carry the state: read-outs, gates, parts that only
    read the input."""
    positions, last = list(range(len(repeats[0]))), max(depths)
    while positions:
        remaining = [tuple(repeat[q] for q in positions) for repeat in repeats]
        before = list(accumulate((_bits(repeat) for repeat in remaining), or_, initial=0))
        after = list(accumulate((_dependencies(repeat) for repeat in reversed(remaining)), or_, initial=0))[
            -2::-1
        ]

        def carries(q: int, before: list[int] = before, after: list[int] = after) -> bool:
            return all(
                (depths[t] == 1 or _dependencies((repeat[q],)) & before[t])
                and (depths[t] == last or _bits((repeat[q],)) & after[t])
                for t, repeat in enumerate(repeats)
            )

        idle = next(
            (q for i, q in enumerate(positions) if not carries(q) or _is_side_branch(remaining[0], i)), None
        )
        if idle is None:
            return remaining
        positions.remove(idle)
    return []


def _is_side_branch(repeat: Repeat, position: int) -> bool:
    """Whether a part is a side branch, such as a gate: no output has the state's shape or is an
    input of another part."""
    mine = list(repeat[position].calls())
    others = [call for i, group in enumerate(repeat) if i != position for call in group.calls()]
    main = max([*mine, *others], key=_size)
    output_shapes = {shape for call in mine for shape in call.output_shapes}
    shapes = {shape for call in others for shape in call.input_shapes}
    return (
        bool(others and output_shapes)
        and main not in mine
        and not output_shapes & (shapes | main.output_shapes)
    )


def _size(call: Call) -> int:
    return sum(p.numel() for p in call.module.parameters())


def _dependencies(repeat: Repeat) -> int:
    dependencies = 0
    for group in repeat:
        for call in group.calls():
            dependencies |= call.dependencies
    return dependencies


def _bits(repeat: Repeat) -> int:
    return sum(call.bit for group in repeat for call in group.calls())
