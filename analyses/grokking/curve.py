"""The accuracy of a set of examples over a training as a monotone curve with its noise, which can
be drawn again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

NEAR = 5
"""The fluctuation of a look is drawn from as many looks before and after it; a plateau is the mean
of as many looks."""
EDGE = 1e-3
"""Where an accuracy is closer to 0 or 1, its noise is taken to be that at this distance."""


class Crossing(NamedTuple):
    """When a curve reaches a level for good."""

    before: float
    """The step of the last look below it."""
    step: float
    """By a line between the looks."""
    after: float
    """The step of the first look at or above it."""


@dataclass(frozen=True)
class Curve:
    """The accuracy of one set of examples by look.

    Two kinds of noise are in it. The accuracy *fluctuates* from look to look, because the weights
    do. And its examples are a *sample* of the set, the same one at every look, which moves the
    whole curve up or down. Both are proportional to sqrt(p (1 - p)) at an accuracy of p (the
    overdispersed binomial; McCullagh & Nelder 1989, section 4.5): what a curve does at 65 % says
    nothing of 97 % before it is scaled.
    """

    steps: np.ndarray
    """(look)"""
    fit: np.ndarray
    """(look): the monotone curve closest to the measured accuracies; drawn again, nearly so."""
    fluctuation: np.ndarray
    """(look): the accuracies minus `fit`, over sqrt(p (1 - p))."""
    sampled: int | None
    """How many examples were drawn; None if these are all that there are, or the score isn't a
    share of examples."""

    @classmethod
    def of(cls, steps: Sequence[int], values: Float[Tensor, " look"], sampled: int | None) -> "Curve":
        """The curve of some looks; those that aren't finite are left out."""
        known = values.isfinite()
        y = values[known].double().numpy()
        fit = _monotone(y)
        return cls(np.asarray(steps, dtype=float)[known.numpy()], fit, (y - fit) / _deviation(fit), sampled)

    def again(self, draw: tuple[int, ...], index: int) -> "Curve":
        """The curve with its noise drawn again.

        Arguments:
            draw: identifies the sample; the looks in order stand for the measured curve.
            index: that of the set: the noise of one is independent of that of another.
        """
        count = len(self.fit)
        if not count or draw == tuple(range(len(draw))):
            return self
        generator = np.random.default_rng([index, *draw])
        near = np.arange(count) + generator.integers(-NEAR, NEAR + 1, count)
        fluctuation = self.fluctuation[near.clip(0, count - 1)]
        again = _monotone(self.fit + fluctuation * _deviation(self.fit))
        # a monotone fit is too high at the end and too low at the start, and `again` once more:
        # what it adds is taken away (the basic bootstrap; Davison & Hinkley 1997, section 5.2)
        fit = (2 * self.fit - again).clip(0, 1)
        return replace(self, fit=self._sampled_again(fit, generator.normal()))

    def _sampled_again(self, fit: np.ndarray, z: float) -> np.ndarray:
        """The accuracies on all examples that there are, z standard deviations above or below what
        the sample gives: the ends of Wilson's interval (1927)."""
        if self.sampled is None:
            return fit
        share = z * z / self.sampled
        spread = np.sqrt(fit * (1 - fit) / self.sampled + share / (4 * self.sampled))
        return (fit + share / 2 + z * spread) / (1 + share)

    @property
    def rise(self) -> float:
        """The accuracy at the end minus that at the start, both as means of a few looks."""
        size = min(NEAR, len(self.fit) // 2)
        return float(self.fit[-size:].mean() - self.fit[:size].mean()) if size else 0.0

    def crossing(self, level: float) -> Crossing | None:
        """When it reaches a level for good; None if it ends below."""
        fit = self.fit
        if not len(fit) or fit[-1] < level:
            return None
        below = np.flatnonzero(fit < level)
        i = int(below[-1]) + 1 if len(below) else 0
        if i == 0:
            return Crossing(*[float(self.steps[0])] * 3)
        share = (level - fit[i - 1]) / (fit[i] - fit[i - 1])
        a, b = float(self.steps[i - 1]), float(self.steps[i])
        return Crossing(a, a + share * (b - a), b)


def _deviation(p: np.ndarray) -> np.ndarray:
    """That of one answer, which is right with probability p."""
    p = p.clip(EDGE, 1 - EDGE)
    return np.sqrt(p * (1 - p))


def _monotone(y: np.ndarray) -> np.ndarray:
    """The monotone curve closest to y, by least squares."""
    from scipy.optimize import isotonic_regression

    return isotonic_regression(y).x if len(y) else y
