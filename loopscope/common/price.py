"""Price and Budget: what an analysis costs, and what it may cost, in forward passes.

A pass is the cost of one bare forward of the recorded batch: all of its examples, through all
iterations of the run. A product with the Jacobian of one iteration counts as two iterations of its
rows, which a backward pass costs.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import LoopscopeError

SLOWER = 3.0
"""A pass of an analysis takes up to so many times as long as a bare one: it computes in double
precision, for few rows at a time, and what it computes from the states takes time too."""
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "pass": None, "passes": None}
_THOUSANDS = r"[1-9][0-9]{0,2}(?:,[0-9]{3})+"  # any other comma may stand for a decimal point
_NUMBER = rf"(?:(?:{_THOUSANDS}|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)(?:e[-+]?[0-9]+)?"
_FORM = re.compile(rf"\s*({_NUMBER})\s*([a-z]*)\s*")
_EXAMPLES = 'Write a time such as "90 s", "2 min" or "1 h", or forward passes such as 500 or "500 passes"'


@dataclass(frozen=True)
class Price:
    """What an analysis of a run costs, before it starts; within a factor of two of what is counted
    then."""

    passes: float
    """Forward passes of the recorded batch."""

    @property
    def text(self) -> str:
        """Such as "120 passes"."""
        return passes_text(self.passes)


@dataclass(frozen=True)
class Budget:
    """What may be spent: forward passes, or seconds."""

    passes: float | None
    seconds: float | None

    @classmethod
    def of(cls, value: Any) -> "Budget":
        """The budget that a number or a text stands for.

        Raises:
            LoopscopeError: neither a time nor a number of passes, or not above 0.
        """
        if isinstance(value, Budget):
            return value
        found = _FORM.fullmatch(value.lower()) if isinstance(value, str) else None
        if found and (found[2] or "pass") in _UNITS:
            amount, unit = float(found[1].replace(",", "")), _UNITS[found[2] or "pass"]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            amount, unit = float(value), None
        else:
            raise LoopscopeError(
                f"a budget must be a time or a number of forward passes, but is {value!r}. {_EXAMPLES}."
            )
        if not 0 < amount < math.inf:
            raise LoopscopeError(f"a budget must be finite and above 0, but is {value!r}. {_EXAMPLES}.")
        return cls(amount, None) if unit is None else cls(None, amount * unit)

    def in_passes(self, pass_seconds: float) -> float:
        """As forward passes.

        Arguments:
            pass_seconds: how long one bare forward of the batch takes.
        """
        if self.passes is not None:
            return self.passes
        assert self.seconds is not None
        return self.seconds / (SLOWER * max(pass_seconds, 1e-9))

    @property
    def text(self) -> str:
        """Such as "2 min" or "500 passes"."""
        if self.seconds is None:
            return passes_text(self.passes or 0.0)
        unit = next(name for name in ("h", "min", "s") if self.seconds >= (_UNITS[name] or 0) or name == "s")
        return f"{self.seconds / (_UNITS[unit] or 1.0):g} {unit}"


def passes_text(passes: float) -> str:
    """A number of forward passes in words, to two digits below 100."""
    if 0 < passes < 0.01:
        return "less than 0.01 passes"
    number = f"{passes:,.0f}" if passes >= 99.5 else f"{passes:.2g}"
    return f"{number} {'pass' if number == '1' else 'passes'}"


def smaller(module: Any, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The options by which an analysis costs less and less: its REDUCED, without those that the
    caller chose."""
    for reduced in getattr(module, "REDUCED", ()):
        if not set(reduced) & set(options):
            yield dict(reduced)
