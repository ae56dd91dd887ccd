"""Changepoints of a training curve: when it moves from one plateau to another, with the
uncertainty.

Time is the optimiser step on a logarithmic axis, log(step + s) with s the first measured step after
0: early steps of a training count as much as late ones.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..common.arguments import FINITE, Finite, PositiveCount, Share
from ..common.errors import LoopscopeError
from ..common.guard import guarded

DRAWS = 200
"""Bootstrap samples."""
SEED = 0
"""Of the bootstrap."""
LEAST = 8
"""Measurements that a curve must have."""


@dataclass(frozen=True)
class Dated:
    """A transition of a curve from one plateau to another, or its passage through a level."""

    step: float
    """Where half of the change is done; for a level, where it is reached for good."""
    low: float
    """Lower end of the 90 % interval of `step`, from the noise of the curve and the spacing of its
    measurements."""
    high: float
    """Upper end."""
    before: float
    """The curve's value on the plateau before; for a level, where the curve begins."""
    after: float
    """On the plateau after; for a level, where the curve ends."""
    begin: float
    """The step at which a tenth of the change is done."""
    end: float
    """The step at which nine tenths are."""

    @property
    def sharpness(self) -> float:
        """1 / ln(end / begin): how many such transitions fit into a factor e of steps. Infinite for
        a jump between two measurements."""
        return float(1 / np.log((self.end + 1) / (self.begin + 1))) if self.end > self.begin else float("inf")


@guarded
def transitions(
    steps: Annotated[Float[Tensor, " measurement"], FINITE],
    values: Annotated[Float[Tensor, " measurement"], FINITE],
    least: Share = 0.1,
    stages: PositiveCount = 3,
) -> list[Dated]:
    """The transitions of a curve between plateaus, in order; none where it never leaves its first
    one.

    The curve is fitted by `stages` logistic functions of log step or fewer, with a loss that is
    robust to spikes, and the fewest that explain it (Bayesian information criterion). A stage
    counts if it is higher than `least` and than four standard deviations of the noise, and if a
    plateau separates it from its neighbours. Each is then dated by the monotone curve (isotonic
    regression) through its measurements, and its uncertainty by resampling the residuals.

    Arguments:
        steps: optimiser steps of the measurements, increasing.
        values: the curve: an accuracy, the logarithm of a loss, a norm.
        least: the smallest change that counts, in the curve's own unit.
        stages: the largest number of transitions.

    Raises:
        LoopscopeError: fewer than LEAST measurements, or values that aren't finite.
    """
    u, y = _axis(steps), _checked(steps, values)
    noise = _noise(y)
    fits = _fits(u, y, max(least, 4 * noise), stages, noise=noise)
    result = []
    for first, last in _windows(u, fits):
        dated = _date(np.asarray(steps, dtype=float)[first:last], y[first:last])
        if dated is not None and abs(dated.after - dated.before) >= max(least, 4 * noise) * 0.8:
            result.append(dated)
    return result


@guarded
def crossing(
    steps: Annotated[Float[Tensor, " measurement"], FINITE],
    values: Annotated[Float[Tensor, " measurement"], FINITE],
    level: Finite,
) -> Dated | None:
    """When a rising curve reaches `level` for good, according to its monotone fit; None if it never
    does.

    A single measurement above the level doesn't count, nor does a dip after it has been reached.

    Raises:
        LoopscopeError: fewer than LEAST measurements, or values that aren't finite.
    """
    y, at = _checked(steps, values), np.asarray(steps, dtype=float)
    fit = _isotonic(y)
    if fit[-1] < level or fit[0] >= level:
        where = None if fit[-1] < level else float(at[0])
        return (
            None if where is None else Dated(where, where, where, float(fit[0]), float(fit[-1]), where, where)
        )
    return _interval(at, y, fit, level, before=float(fit[0]), after=float(fit[-1]))


def _axis(steps: Tensor) -> np.ndarray:
    at = np.asarray(steps, dtype=float)
    positive = at[at > 0]
    return np.log(at + (positive[0] if len(positive) else 1.0))


def _checked(steps: Tensor, values: Tensor) -> np.ndarray:
    at, y = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if at.ndim != 1 or at.shape != y.shape or len(at) < LEAST or not (np.diff(at) > 0).all():
        raise LoopscopeError(
            f"a curve needs a value for each of {LEAST} steps or more, in increasing order, but has steps "
            f"{at.shape} and values {y.shape}. Measure the training more often."
        )
    return y


def _noise(y: np.ndarray) -> float:
    """Standard deviation of the noise, without the trend: a robust estimate from second
    differences."""
    bends = np.abs(y[2:] - 2 * y[1:-1] + y[:-2])
    return float(np.median(bends) / 0.6745 / np.sqrt(6))


def _logistic(u: np.ndarray, p: np.ndarray) -> np.ndarray:
    """p: base, then (height, centre, log width) of each stage."""
    y = np.full_like(u, p[0])
    for height, centre, width in p[1:].reshape(-1, 3):
        y = y + height / (1 + np.exp(-np.clip((u - centre) / np.exp(width), -50, 50)))
    return y


def _fits(
    u: np.ndarray, y: np.ndarray, least: float, stages: int, *, noise: float
) -> list[tuple[float, float]]:
    """(centre, width) of each stage of the best fit, in order of the centres."""
    from scipy.optimize import least_squares

    n, spread = len(u), float(np.ptp(y))
    if spread < least:
        return []
    scale = max(noise, 0.01 * spread)
    grain = np.median(np.diff(u)) / 4
    bounds = np.log(max(grain, 1e-4)), np.log(np.ptp(u))

    def cost(p: np.ndarray) -> float:
        r = (_logistic(u, p) - y) / scale
        return float(np.log1p(r**2).sum())  # what least_squares' "cauchy" minimises

    level = np.array([float(np.median(y))])
    best, score = level, cost(level) + np.log(n)
    for k in range(1, stages + 1):
        starts = sorted(_starts(u, y, k, bounds), key=cost)[:2]
        lower = [-np.inf] + [-2 * spread, u[0], bounds[0]] * k
        upper = [np.inf] + [2 * spread, u[-1], bounds[1]] * k
        fitted = [
            least_squares(
                lambda p: (_logistic(u, p) - y) / scale,
                np.clip(start, lower, upper),
                bounds=(lower, upper),
                loss="cauchy",
                max_nfev=60,
            ).x
            for start in starts
        ]
        current = min(fitted, key=cost)
        criterion = cost(current) + len(current) * np.log(n)
        parts = current[1:].reshape(-1, 3)
        if criterion < score - 2 and (np.abs(parts[:, 0]) >= least).all() and _separated(parts):
            best, score = current, criterion
    return sorted((float(c), float(np.exp(w))) for _, c, w in best[1:].reshape(-1, 3))


def _starts(u: np.ndarray, y: np.ndarray, k: int, bounds: tuple[float, float]) -> Iterator[np.ndarray]:
    """Starting points for a fit of k stages: jumps between the medians of k + 1 parts of the
    curve."""
    n = len(u)
    grid = np.unique(np.linspace(2, n - 3, {1: 40, 2: 16}.get(k, 10)).astype(int))
    for cuts in itertools.combinations(grid, k):
        levels = [float(np.median(part)) for part in np.split(y, cuts)]
        for width in (bounds[0] + 0.5, min(-1.5, bounds[1] - 0.1)):
            stages = [(b - a, u[cut], width) for a, b, cut in zip(levels, levels[1:], cuts, strict=False)]
            yield np.array([levels[0], *itertools.chain(*stages)])


def _separated(parts: np.ndarray) -> bool:
    """Whether a plateau lies between any two stages: nine tenths of one are done before a tenth of
    the next."""
    parts = parts[np.argsort(parts[:, 1])]
    reach = np.log(9) * np.exp(parts[:, 2])
    return all(parts[i, 1] + reach[i] <= parts[i + 1, 1] - reach[i + 1] for i in range(len(parts) - 1))


def _windows(u: np.ndarray, fits: list[tuple[float, float]]) -> list[tuple[int, int]]:
    """The measurements that belong to each stage: up to the middle of the plateau on either
    side."""
    edges = [0]
    for (centre, width), (after, wide) in zip(fits, fits[1:], strict=False):
        middle = (centre + np.log(9) * width + after - np.log(9) * wide) / 2
        edges.append(int(np.searchsorted(u, middle)))
    edges.append(len(u))
    return list(zip(edges, edges[1:], strict=False)) if fits else []


def _isotonic(y: np.ndarray) -> np.ndarray:
    """The monotone curve closest to y, by least squares."""
    from scipy.optimize import isotonic_regression

    return isotonic_regression(y).x


def _date(at: np.ndarray, y: np.ndarray) -> Dated | None:
    """The transition in these measurements; None for fewer than three."""
    if len(y) < 3:
        return None
    size = max(1, len(y) // 5)
    sign = 1.0 if np.median(y[-size:]) >= np.median(y[:size]) else -1.0
    fit = _isotonic(sign * y)
    before, after = float(np.median(fit[:size])), float(np.median(fit[-size:]))
    result = _interval(at, sign * y, fit, (before + after) / 2, before=before, after=after)
    return Dated(result.step, result.low, result.high, sign * before, sign * after, result.begin, result.end)


def _interval(
    at: np.ndarray, y: np.ndarray, fit: np.ndarray, level: float, *, before: float, after: float
) -> Dated:
    generator = np.random.default_rng(SEED)
    step, gap = _reached(at, fit, level)
    rest = y - fit
    samples = [
        _reached(at, _isotonic(fit + generator.choice(rest, len(rest))), level)[0] for _ in range(DRAWS)
    ]
    low, high = np.quantile(samples, [0.05, 0.95])
    tenth = (after - before) / 10
    begin, end = _reached(at, fit, before + tenth)[0], _reached(at, fit, after - tenth)[0]
    return Dated(step, min(float(low), gap[0]), max(float(high), gap[1]), before, after, begin, end)


def _reached(at: np.ndarray, fit: np.ndarray, level: float) -> tuple[float, tuple[float, float]]:
    """Where a rising curve reaches a level, by a line between two measurements; and these two."""
    i = int(np.argmax(fit >= level)) if (fit >= level).any() else len(fit) - 1
    if i == 0:
        return float(at[0]), (float(at[0]), float(at[0]))
    span = fit[i] - fit[i - 1]
    share = (level - fit[i - 1]) / span if span > 0 else 1.0
    return float(at[i - 1] + np.clip(share, 0, 1) * (at[i] - at[i - 1])), (float(at[i - 1]), float(at[i]))
