"""The slowest mode of an approach to a limit: its factor per iteration, also where it rotates as it
shrinks.

The logarithm of the norm of a difference that rotates as it shrinks oscillates about a straight
line, the more so the less normal the map. The differences themselves obey a recurrence: where m
modes remain,

    d_(k+m) = a_1 d_(k+m-1) + ... + a_m d_k

exactly, with the same coefficients a for all components, and the modes are the roots of z^m = a_1
z^(m-1) + ... + a_m (Prony 1795; for vectors the companion form of dynamic mode decomposition,
Schmid 2010). The smallest m that explains the last part of the approach is taken.
"""

import math
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..common.arguments import FINITE, Count, NotNegative
from ..common.guard import guarded
from .contraction_rate import Rate, no_rate

ORDERS = (1, 2, 3, 4)
"""Numbers of modes that are tried."""
EXPLAINED = 1e-4
"""The recurrence must leave at most this fraction of a difference unexplained ..."""
DRIFT = 0.01
"""... and the factor must be constant from one state to the next, to this fraction of its distance
to 1."""


@guarded
def mode(
    differences: Annotated[Float[Tensor, "state width"], FINITE], floor: NotNegative, first: Count = 0
) -> Rate:
    """The factor per iteration of the slowest mode in x_k - x*, with its error.

    >>> turn = 0.5 * torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    >>> states = torch.stack([torch.matrix_power(turn, k)[0] for k in range(20)])
    >>> round(mode(states, 1e-6).value, 6)
    0.5

    Arguments:
        differences: x_k - x*, one after the other: one number each, or more numbers than modes.
        floor: the norm below which a difference is mostly rounding.
        first: the k of the first difference.
    """
    d = _in_span(differences.detach().to("cpu", torch.float64).numpy())
    norm = np.linalg.norm(d, axis=1)
    if not np.isfinite(norm).all():
        return no_rate("the differences are not finite")
    low = np.flatnonzero(norm <= floor / EXPLAINED)
    end = int(low[0]) if len(low) else len(d)
    for order in ORDERS:
        length = max(order + 3 if d.shape[1] >= order else 2 * order + 3, end // 3)
        if length > end:
            break
        window = slice(end - length, end)
        value, rest = _fit(d[window], norm[window], order)
        if not (rest <= EXPLAINED and 0 < value < 1 - 1e-6):
            continue
        error = max(_scatter(d, norm, window, order, value=value), value * rest, np.finfo(float).eps)
        if error > DRIFT * (1 - value):  # no exponential: the factor itself keeps changing
            continue
        start, last = first + end - length, first + end - 1
        modes = f"the slowest of {order} modes that explain" if order > 1 else "the one mode that explains"
        return Rate(
            value=value,
            error=error,
            low=value - 2 * error,
            high=value + 2 * error,
            r2=1 - rest**2,
            first=start,
            last=last,
            points=length,
            start=float(norm[end - length]),
            sentence=f"The distance to the limit shrinks by the factor {value:.5g} ± {2 * error:.1g} per "
            "iteration "
            f"({modes} states {start} to {last}).",
        )
    return no_rate(f"no {ORDERS[-1]} modes explain the approach")


def _in_span(d: np.ndarray) -> np.ndarray:
    """Long differences as coordinates in a basis of their span, which has all of their lengths and
    products: as many numbers as there are differences. Each keeps its own precision, however small
    it is beside the others."""
    if d.shape[1] <= 2 * len(d) or not np.isfinite(d).all():
        return d
    return np.asarray(np.linalg.qr(d.T, mode="r")).T


def _scatter(d: np.ndarray, norm: np.ndarray, window: slice, order: int, *, value: float) -> float:
    """The standard deviation of the factor over shorter windows, and over its trend from the first
    half to the second."""
    begin, end = window.start, window.stop
    length = end - begin

    def fitted(i: int, size: int) -> float:
        return _fit(d[i : i + size], norm[i : i + size], order)[0]

    parts = [fitted(i, length - 2) for i in range(begin, begin + 3)]
    half = length // 2
    # a defective approach, k^m rho^k, looks straight although it slows down
    if half >= order + 3:
        early, late = fitted(begin, half), fitted(end - half, half)
        parts += [value + (late - early) / 2, value - (late - early) / 2]
    return float(np.std(parts))


def _fit(d: np.ndarray, norm: np.ndarray, order: int) -> tuple[float, float]:
    """The largest modulus of a root, and the root mean square of what the recurrence doesn't
    explain, relative to the differences."""
    scale = 1 / np.maximum(norm[: len(d) - order], 1e-300)
    terms = np.stack([d[order - 1 - i : len(d) - 1 - i] * scale[:, None] for i in range(order)], -1).reshape(
        -1, order
    )
    target = (d[order:] * scale[:, None]).reshape(-1)
    if len(target) < order or not np.isfinite(terms).all() or not np.isfinite(target).all():
        return math.nan, math.inf
    a, *_ = np.linalg.lstsq(terms, target, rcond=1e-10)
    size = float(np.linalg.norm(target))
    rest = float(np.linalg.norm(target - terms @ a)) / size if size > 0 else 0.0
    return float(np.abs(np.roots([1.0, *-a])).max()), rest
