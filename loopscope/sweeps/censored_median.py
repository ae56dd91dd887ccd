"""The median over seeds, with its interval, of times some of which are only known to be longer than
something.

A training that hasn't generalised by its end has a delay, too: longer than what was seen of it
(right-censored). Leaving it out would make the slow look fast. Kaplan & Meier 1958, "Nonparametric
estimation from incomplete observations"; the interval by drawing seeds with replacement (Efron
1981, "Censored data and the bootstrap").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS, SEED, COVERED = 2000, 0, 0.95


@dataclass(frozen=True)
class Middle:
    """A median over seeds. None: it lies beyond what was seen."""

    median: float | None
    low: float | None
    high: float | None
    """Between low and high lie the medians of 95 % of the draws."""
    seen: int
    """Values that are known."""
    censored: int
    """Values of which only a bound is known."""


def middle(values: Sequence[float], bounds: Sequence[float] = ()) -> Middle | None:
    """The median of `values` and of what is longer than `bounds`, and its interval; None of
    nothing."""
    count = len(values) + len(bounds)
    if not count:
        return None
    times = np.array([*values, *bounds], dtype=float)
    known = np.arange(count) < len(values)
    drawn = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=DRAWS)
    edge = (1 - COVERED) / 2
    # an order statistic of the medians: no sums with infinity
    low, high = np.quantile(_medians(times, known, drawn), [edge, 1 - edge], method="inverted_cdf")
    ends = [float(_medians(times, known, np.ones((1, count), dtype=int))[0]), float(low), float(high)]
    median, low, high = (x if math.isfinite(x) else None for x in ends)
    return Middle(median, low, high, len(values), len(bounds))


def _medians(times: np.ndarray, known: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Where the share of those still waiting falls below a half; infinity if it doesn't, half-way
    where it rests on a half.

    Arguments:
        times: (seed,)
        known: (seed,): False where the time is only a bound.
        weights: (draw, seed): how often each seed was drawn.

    Returns:
        (draw,)
    """
    order = np.lexsort((~known, times))  # who is left at a time was there when others ended at it
    times, known, weights = times[order], known[order], weights[:, order]
    waiting = weights[:, ::-1].cumsum(1)[:, ::-1]  # before each time
    share = np.cumprod(1 - np.where(known, weights, 0) / np.maximum(waiting, 1), axis=1)

    def first(where: np.ndarray) -> np.ndarray:
        return np.where(where.any(1), times[where.argmax(1)], np.inf)

    below = first(share < 0.5 - 1e-9)
    rests = first(np.abs(share - 0.5) <= 1e-9)
    return np.where(rests < below, (rests + below) / 2, below)
