"""Selectors of edits: which iterations, turns of inner loops, positions, heads, rows."""

from collections.abc import Mapping
from typing import Any

from ..common.errors import LoopscopeError
from ..core.indexing import Selector, canonical_selector, selector_text

Where = Any
"""What selects: a whole number, a slice, a list, range, array or mask of these; None:
everything."""


def checked_selectors(
    name: str, iteration: Where, where: Mapping[str, Any]
) -> tuple[Selector | None, dict[str, Selector]]:
    """The selectors of an edit in their canonical form; None selects everything.

    Raises:
        LoopscopeError: a selector that is none, or that selects nothing.
    """
    result: dict[str, Selector] = {}
    for axis, selector in {"iteration": None if iteration is Ellipsis else iteration, **where}.items():
        if selector is None:
            continue
        chosen = canonical_selector(selector, f"{axis} of an edit")
        if isinstance(chosen, list) and not any(number is not False for number in chosen):
            raise LoopscopeError(
                f"{axis} of an edit must select something, but is {selector_text(chosen)}: the edit "
                f"({name}) would never apply. Leave it out, or name what to edit."
            )
        result[axis] = chosen
    return result.pop("iteration", None), result


def counts_from_end(selector: Selector | None) -> bool:
    """Whether the number of iterations must be known to tell what an iteration's selector
    selects."""
    if isinstance(selector, slice):
        bounds = (selector.start, selector.stop, selector.step)
        return any(bound is not None and bound < 0 for bound in bounds)
    if isinstance(selector, list):
        return isinstance(selector[0], bool) or any(number < 0 for number in selector)
    return selector is not None and selector < 0


def selects(selector: Selector, number: int, count: int | None) -> bool:
    """Whether a canonical selector selects a number, of `count` numbers."""
    if isinstance(selector, slice):
        if count is None and counts_from_end(selector):
            return False
        return number in range(*selector.indices(1 << 40 if count is None else count))
    if isinstance(selector, list) and isinstance(selector[0], bool):
        return number < len(selector) and bool(selector[number])
    numbers = [selector] if isinstance(selector, int) else selector
    return number in numbers or (count is not None and number - count in numbers)
