"""The median over seeds, with its interval, of times some of which are only known to be longer than something.

A training that hasn't generalised by its end has a delay, too: longer than what was seen of it (right-censored). Leaving it
out would make the slow look fast. Kaplan & Meier 1958, "Nonparametric estimation from incomplete observations", as scipy
computes it; the interval by drawing seeds with replacement (Efron 1981, "Censored data and the bootstrap").
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
    """The median of `values` and of what is longer than `bounds`, and its interval; None of nothing."""
    count = len(values) + len(bounds)
    if not count:
        return None
    known: dict[tuple[int, ...], float] = {}

    def of(drawn: tuple[int, ...]) -> float:
        if drawn not in known:  # few seeds give few different draws
            known[drawn] = _median(
                [values[i] for i in drawn if i < len(values)],
                [bounds[i - len(values)] for i in drawn if i >= len(values)],
            )
        return known[drawn]

    generator = np.random.default_rng(SEED)
    draws = np.sort(generator.integers(count, size=(DRAWS, count)), axis=1)
    medians = np.array([of(tuple(row)) for row in draws.tolist()])
    edge = (1 - COVERED) / 2
    low, high = np.quantile(medians, [edge, 1 - edge], method="inverted_cdf")  # no sums with infinity
    ends = [of(tuple(range(count))), float(low), float(high)]
    return Middle(*(x if math.isfinite(x) else None for x in ends), len(values), len(bounds))


def _median(values: list[float], bounds: list[float]) -> float:
    """Where the share of those still waiting falls below a half; infinity if it doesn't, half-way where it rests on a half."""
    if not values:
        return math.inf
    from scipy.stats import CensoredData, ecdf

    waiting = ecdf(CensoredData(uncensored=values, right=bounds)).sf
    times, share = waiting.quantiles, waiting.probabilities
    below = times[share < 0.5 - 1e-9]
    if not len(below):
        return math.inf
    at = times[np.isclose(share, 0.5, atol=1e-9) & np.isin(times, values)]
    return float(below[0] if not len(at) else (at[0] + below[0]) / 2)
