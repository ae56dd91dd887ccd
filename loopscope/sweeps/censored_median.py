"""The median over seeds, with a confidence interval, when some values are right-censored.

A training that hasn't generalised by its end has a delay too: one that is longer than the training.
Leaving it out would make slow conditions look fast. Kaplan & Meier 1958, "Nonparametric estimation
from incomplete observations"; the interval by the bootstrap over seeds (Efron 1981, "Censored data
and the bootstrap").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS, SEED, COVERAGE = 2000, 0, 0.95


@dataclass(frozen=True)
class CensoredMedian:
    """A median over seeds. None: it is larger than every observed value."""

    value: float | None
    low: float | None
    high: float | None
    """Between low and high lie the medians of 95 % of the bootstrap samples."""
    observed: int
    """Number of values that are known exactly."""
    censored: int
    """Number of values of which only a lower bound is known."""


def censored_median(values: Sequence[float], bounds: Sequence[float] = ()) -> CensoredMedian | None:
    """The median of `values` and of censored values, which are larger than `bounds`, with its
    interval; None if there are no values at all."""
    count = len(values) + len(bounds)
    if not count:
        return None
    times = np.array([*values, *bounds], dtype=float)
    observed = np.arange(count) < len(values)
    samples = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=DRAWS)
    edge = (1 - COVERAGE) / 2
    # an order statistic of the medians: no sums with infinity
    low, high = np.quantile(_medians(times, observed, samples), [edge, 1 - edge], method="inverted_cdf")
    ends = [float(_medians(times, observed, np.ones((1, count), dtype=int))[0]), float(low), float(high)]
    median, low, high = (x if math.isfinite(x) else None for x in ends)
    return CensoredMedian(median, low, high, len(values), len(bounds))


def _medians(times: np.ndarray, observed: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The time at which the Kaplan-Meier curve falls below a half: infinity if it never does, and
    the middle of the interval on which it equals a half.

    Arguments:
        times: (seed,)
        observed: (seed,): False where the time is only a lower bound.
        weights: (sample, seed): how often each seed is in the bootstrap sample.

    Returns:
        (sample,)
    """
    order = np.lexsort((~observed, times))  # a censored seed still counts among those waiting at its time
    times, observed, weights = times[order], observed[order], weights[:, order]
    waiting = weights[:, ::-1].cumsum(1)[:, ::-1]  # before each time
    share = np.cumprod(1 - np.where(observed, weights, 0) / np.maximum(waiting, 1), axis=1)

    def first(where: np.ndarray) -> np.ndarray:
        return np.where(where.any(1), times[where.argmax(1)], np.inf)

    below = first(share < 0.5 - 1e-9)
    equal = first(np.abs(share - 0.5) <= 1e-9)
    return np.where(equal < below, (equal + below) / 2, below)
