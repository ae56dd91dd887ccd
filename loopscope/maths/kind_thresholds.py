"""The thresholds between the kinds of limits."""

import math
from dataclasses import dataclass

from ..common.errors import LoopscopeError


@dataclass(frozen=True)
class Thresholds:
    """Thresholds between the kinds. Sizes of motion are compared between the last quarters of the
    trajectory."""

    coherence: float = 0.95
    """A period, or two frequencies, must explain this fraction of the variance."""
    noise: float = 0.1
    """A trajectory that jitters about a mean by less than this fraction of the range that it covers
    is a point; so is one that jitters unpredictably by less than this fraction of its norm. 0.1
    suits noisy data; a loop computes without noise, so its analyses use a smaller one."""
    shrink: float = 0.5
    """Motion that shrinks by this factor from quarter to quarter converges to a point ..."""
    slow: float = 0.9
    """... and so does smooth motion that shrinks by this one, if it shrinks geometrically."""
    geometric: float = 0.85
    """Shrinking (growing) is geometric if its logarithm keeps this fraction of itself from quarter
    to quarter."""
    growth: float = 1.05
    """A slider's norm grows by this factor from the third to the fourth quarter ..."""
    swing: float = 0.05
    """... while its direction turns by less than this angle, in radians, or less and less."""
    explosion: float = 1.2
    """A diverging trajectory grows by this factor, and faster than a parabola."""
    trend: float = 0.3
    """A drift puts this fraction of the late variance on a straight line at a steady pace ..."""
    arc: float = 0.8
    """... or this one on a smooth arc (a cubic)."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            above = name in ("growth", "explosion")
            if not (value > 1 if above else 0 < value < (math.pi if name == "swing" else 1)):
                must = (
                    "a factor above 1"
                    if above
                    else "an angle above 0"
                    if name == "swing"
                    else "a fraction between 0 and 1"
                )
                usual = getattr(type(self), name)
                raise LoopscopeError(
                    f"the threshold {name} must be {must}, but is {value!r}. Its default is {usual}."
                )
