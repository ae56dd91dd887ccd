"""Measurement: the numbers of a finding for one seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..common.errors import LoopscopeError
from ..common.text import number
from ..common.to_json import rounded, to_json

DIGITS = 7
"""Of numbers in files: as many as float32 has."""


class Interval(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measurement:
    """What `measure` returns where numbers alone don't show it; it may also return the numbers."""

    numbers: Mapping[str, float | Interval]
    """By name, with the unit in the name. One that isn't finite never passes."""
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By name: values after k = 0, 1, ... iterations, for the figure."""
    axis: str = "iterations"
    """What the curves go along."""

    def to_json(self) -> dict[str, Any]:
        """As JSON: a number, or [value, low, high]; None for what isn't finite."""
        values = {
            "numbers": to_json(self.numbers),
            "curves": {name: to_json([float(y) for y in curve]) for name, curve in self.curves.items()},
            "axis": self.axis,
        }
        return rounded(values, DIGITS)


def measurement_of(result: Any, name: str) -> Measurement:
    """What a finding's `measure` returned, checked.

    Raises:
        LoopscopeError: it is neither a Measurement nor numbers by name.
    """
    one = result if isinstance(result, Measurement) else Measurement(result)
    if not (isinstance(one.numbers, Mapping) and one.numbers and all(map(_fits, one.numbers.items()))):
        raise LoopscopeError(
            f"measure of {name} must return numbers by name, such as {{'accuracy': 0.9}}, or a Measurement "
            f"with them, but returned {str(result)[:80]!r}."
        )
    return Measurement({k: _plain(v) for k, v in one.numbers.items()}, one.curves, one.axis)


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number, null, or [value, low, high] of these."""
    parts = value if isinstance(value, list) and len(value) == 3 else [value]
    return all(
        part is None or (isinstance(part, int | float) and not isinstance(part, bool)) for part in parts
    )


def value_of(number: Any) -> float:
    """The value of a number as JSON has it: alone, or with its interval; NaN for None."""
    value = number[0] if isinstance(number, list | tuple) else number
    return math.nan if value is None else float(value)


def figure(value: float) -> str:
    """A measured number in words: three significant digits, or all of a whole number."""
    if math.isfinite(value) and value == round(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return number(value) if not 1e-4 <= abs(value) < 1e3 else f"{value:#.3g}".rstrip(".")


def interval_text(stored: Any) -> str:
    """A number as JSON has it in words, with its 95 % interval if it has one: 2.41 [2.21, 2.61]."""
    value = figure(value_of(stored))
    if not isinstance(stored, list | tuple):
        return value
    low, high = (math.nan if end is None else float(end) for end in stored[1:])
    return f"{value} [{figure(low)}, {figure(high)}]"


def _fits(item: tuple[Any, Any]) -> bool:
    name, value = item
    try:
        return isinstance(name, str) and (
            isinstance(value, Interval) or math.isnan(float(value)) in (True, False)
        )
    except (TypeError, ValueError):
        return False


def _plain(value: Any) -> float | Interval:
    return Interval(*map(float, value)) if isinstance(value, Interval) else float(value)
