"""Numbers as text in sentences."""

import re
from collections.abc import Sequence


def number(value: float, digits: int = 3) -> str:
    """A number for a sentence: few digits, and powers of ten for what is very small or large."""
    if value != value:
        return "unknown"
    return f"{value:.{digits}g}".replace("e-0", "e-").replace("e+0", "e+")


def percent(share: float) -> str:
    """A fraction in 0..1 as a percentage. Never rounded to 0 % or 100 % unless it is exactly
    that."""
    if share != share:
        return "unknown"
    for digits in (0, 1, 2, 3):
        text = f"{100 * share:.{digits}f}"
        if (float(text) in (0, 100)) == (share in (0, 1)) and (
            digits > 0 or 5 <= 100 * share <= 95 or share in (0, 1)
        ):
            return f"{text} %"
    return f"{'less than 0.001' if share < 0.5 else 'more than 99.999'} %"


def listed(names: Sequence[str]) -> str:
    """Names of analyses as a reader says them, such as "cycles, fixed points and stability"."""
    words = [name.replace("_", " ") for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def plural(count: int, noun: str) -> str:
    """A count with its noun, such as "1 iteration" and "12 iterations"."""
    return f"{count} {noun}{'s' * (count != 1)}"


def level(value: float, unit: str) -> str:
    """A level of difficulty with its unit, such as "2 ones in the string"; "larger summand = 5"
    where the unit doesn't count things."""
    # What is counted stands before "of" or "in" and ends with s.
    noun = re.split(r",| of | in ", unit)[0]
    if not noun.endswith("s"):
        return f"{unit} = {_plain(value)}"
    return f"{_plain(value)} {noun[:-1] if value == 1 else noun}{unit[len(noun) :]}"


def level_range(low: float, high: float, unit: str) -> str:
    """A range of levels with its unit, such as "2 to 5 ones in the string", "larger summand = 3 to
    9"."""
    if low == high:
        return level(low, unit)
    upper = level(high, unit)
    if upper.startswith(unit):
        return f"{unit} = {_plain(low)} to {_plain(high)}"
    return f"{_plain(low)} to {upper}"


def _plain(value: float) -> str:
    """A whole number in full, any other with three digits."""
    return f"{value:.0f}" if value == round(value) else f"{value:.3g}"
