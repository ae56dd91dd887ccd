"""CallOrder: which parts of a model one iteration calls, read from the calls of a forward pass."""

from collections.abc import Container, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CallOrder:
    """The calls of a model's parts, by name, in the order in which its own forward makes them."""

    first: tuple[str, ...]
    """Those of the first iteration, which may leave out an opening part."""
    iteration: tuple[str, ...]
    """Those of every further iteration."""
    after: tuple[str, ...]
    """Those after the loop."""
    count: int
    """The number of iterations."""


def read_order(calls: Sequence[str], core: Container[str]) -> CallOrder | None:
    """The order of a pass with two iterations or more; None if its iterations aren't alike.

    What is called between two iterations and again after the last one, such as a norm, ends an
    iteration. What is called only between two, such as an injection, opens the next.

    Arguments:
        calls: the names of the parts as they were called.
        core: the names of the parts that only the loop calls.
    """
    places = [place for place, name in enumerate(calls) if name in core]
    size = _period([calls[place] for place in places])
    ends = places[size - 1 :: size] if size else []
    if len(ends) < 2:
        return None
    between = [tuple(calls[a + 1 : b + 1]) for a, b in zip(ends, ends[1:], strict=False)]
    before, after = tuple(calls[: ends[0] + 1]), tuple(calls[ends[-1] + 1 :])
    if len(set(between)) > 1:
        return None
    closing = _common_start(between[0], after)
    opening = between[0][len(closing) :]
    smallest = len(opening) - next(i for i, name in enumerate(opening) if name in core)
    sizes = range(len(opening), smallest - 1, -1)
    first = next((opening[-n:] for n in sizes if before[-n:] == opening[-n:]), None)
    if first is None:
        return None
    return CallOrder(first + closing, opening + closing, after[len(closing) :], len(ends))


def _period(names: Sequence[str]) -> int:
    """The length of the shortest sequence that the names repeat."""
    sizes = [size for size in range(1, len(names) + 1) if len(names) % size == 0]
    return next((s for s in sizes if list(names[:s]) * (len(names) // s) == list(names)), 0)


def _common_start(one: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return tuple(one[:count])
