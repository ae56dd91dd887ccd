"""The contraction rate of a distance: the factor per iteration, from a straight part of its
logarithm, or the reason why there is none."""

import math
from dataclasses import dataclass

import numpy as np

from ..common.arguments import NotNegative, Numbers
from ..common.errors import LoopscopeError
from ..common.guard import guarded

POINTS = 5
"""The fewest points from which a rate is fitted."""
STRAIGHT = 0.98
"""Least R² of the line."""
AGREE = (0.002, 0.02)
"""The slopes of the stretch's two halves differ by at most the first fraction, or by two standard
errors; where no stretch is as straight as that, by at most the second. Their difference widens
the interval."""
_STARTS = 24


@dataclass(frozen=True)
class Rate:
    """A contraction factor per iteration, with its error. NaN where there is none; `sentence` gives
    the reason."""

    value: float
    """Factor per iteration; below 1 the distance shrinks."""
    error: float
    """Standard error of `value`."""
    low: float
    """Lower end of the 95 % confidence interval."""
    high: float
    """Its upper end."""
    r2: float
    """R² of log distance against iteration."""
    first: int
    """The first iteration of the stretch that was fitted; -1 if there is none."""
    last: int
    """Its last iteration."""
    points: int
    """Points that were fitted."""
    start: float
    """The line's value at `first`, as a distance."""
    sentence: str
    """The rate in words, or why there is none."""


@guarded
def contraction(distance: Numbers, floor: NotNegative, iterations: Numbers | None = None) -> Rate:
    """The rate of d_k ~ c rho^k: least squares of log d_k over the longest straight stretch that
    ends above the floor.

    The stretch ends before the first d_k at or below `floor`, where rounding or the limit's own
    error shows. It begins where the transient is over: at the earliest k from which its two halves
    have one slope (see AGREE) and R² is at least STRAIGHT. Residuals along one trajectory are not
    independent, so the interval is a lower bound of the uncertainty.

    >>> round(contraction([0.5**k for k in range(20)], floor=1e-5).value, 6)
    0.5

    Arguments:
        distance: d_k, one after the other.
        floor: the distance below which d_k is mostly rounding.
        iterations: k; None means 0, 1, 2 ...
    """
    d = np.asarray(distance, dtype=np.float64)
    k = np.arange(len(d)) if iterations is None else np.asarray(iterations)
    if d.ndim != 1 or k.shape != d.shape:
        raise LoopscopeError(
            f"a rate needs one distance for each iteration, but got {d.shape} for {k.shape}. Pass two "
            "sequences of one length."
        )
    if not np.isfinite(d).all() or not math.isfinite(floor):
        return no_rate("the distances are not finite")
    if not d.any():
        return no_rate("the state never moves")
    below = np.flatnonzero(d <= floor)
    end = int(below[0]) if len(below) else len(d)
    if end == 0:
        return no_rate("the distance never exceeds the precision with which its limit is determined")
    if end < POINTS:
        return no_rate(f"only {end} of the {POINTS} points that a fit needs lie above the floor")
    x, y = k[:end].astype(np.float64), np.log(d[:end])
    best = None
    for a in range(0, end - POINTS + 1, max(1, end // _STARTS)):
        middle = (a + end) // 2
        slope, error, r2, start = _line(x[a:], y[a:])
        first, second = _line(x[a : middle + 1], y[a : middle + 1]), _line(x[middle:], y[middle:])
        difference, noise = abs(first[0] - second[0]), 2 * _scatter(x[a:], y[middle:])
        if r2 < STRAIGHT or difference > max(AGREE[1] * abs(slope), noise):
            continue
        straight = difference <= max(AGREE[0] * abs(slope), noise)
        if best is None or straight or difference < best[0]:
            best = difference, a, slope, math.hypot(error, difference / 2), r2, start
        if straight:
            break
    if best is not None:
        _, a, slope, error, r2, start = best
        if slope >= 0:
            return no_rate("the distance doesn't shrink")
        return _rate(slope, error, r2, int(k[a]), last=int(k[end - 1]), points=end - a, start=math.exp(start))
    return no_rate("the logarithm of the distance doesn't follow a straight line")


def no_rate(reason: str) -> Rate:
    """A Rate of NaN, with the reason in its sentence."""
    nan = float("nan")
    return Rate(nan, nan, nan, nan, nan, -1, -1, 0, nan, f"There is no contraction rate: {reason}.")


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float, float]:
    """Slope, its standard error, R², and the line's value at x[0], by least squares."""
    dx, dy = x - x.mean(), y - y.mean()
    spread, total = float(dx @ dx), float(dy @ dy)
    slope = float(dx @ dy) / spread
    left = max(0.0, total - slope * slope * spread)
    error = math.sqrt(left / (len(x) - 2) / spread) if len(x) > 2 else math.inf
    r2 = 1 - left / total if total > 0 else 0.0
    return slope, error, r2, float(y.mean() + slope * (x[0] - x.mean()))


def _scatter(x: np.ndarray, y: np.ndarray) -> float:
    """Standard error of the difference of two halves' slopes. The scatter of y is estimated from
    its second differences, which stay small for a bend in the line, unlike residuals of least
    squares."""
    half = len(x) // 2 + 1
    spread = half * (half**2 - 1) / 12 * float(x[1] - x[0]) ** 2
    return math.sqrt(float(np.square(np.diff(y, 2)).mean()) / 6 * 2 / spread)


def _rate(slope: float, error: float, r2: float, first: int, *, last: int, points: int, start: float) -> Rate:
    from scipy.special import stdtrit

    reach = float(stdtrit(points - 2, 0.975)) * error
    value, low, high = math.exp(slope), math.exp(slope - reach), math.exp(slope + reach)
    sentence = (
        f"The distance to the limit shrinks by the factor {value:.4g} per iteration (95 % interval "
        f"{low:.4g} to {high:.4g}; fitted over {points} points, states {first} to {last}, R² {r2:.4f})."
    )
    return Rate(value, value * error, low, high, r2, first, last, points, start, sentence)
