"""Checks of values that the parts of recipes share."""

from typing import Any

from ..common.errors import LoopscopeError


def check_count(name: str, value: Any, least: int = 0) -> None:
    """Raise LoopscopeError unless `value` is a whole number, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise LoopscopeError(f"{name} must be a whole number, {least} or more, but is {value!r}.")


def check_range(name: str, value: Any, low: float, high: float) -> None:
    """Raise LoopscopeError unless `value` is a number in low..high."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise LoopscopeError(f"{name} must be a number in {low}..{high}, but is {value!r}.")
