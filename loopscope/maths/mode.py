"""The slowest mode of an approach to a limit: its factor per iteration, also where it turns as it shrinks.

The norm of a difference that rotates as it shrinks wavers about its straight line, the more so the less normal the map. The
differences themselves don't: where m modes are left,

    d_(k+m) = a_1 d_(k+m-1) + ... + a_m d_k

exactly, with the same numbers a for all components, and the modes are the roots of z^m = a_1 z^(m-1) + ... + a_m (Prony
1795; for vectors the companion form of dynamic mode decomposition, Schmid 2010). The smallest m that explains the last part
of the approach is taken.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .contraction import Rate, none

ORDERS = (1, 2, 3, 4)
"""How many modes are tried for."""
EXPLAINED = 1e-4
"""The recurrence must leave at most this fraction of a difference unexplained ..."""
DRIFT = 0.01
"""... and the factor must hold from one state to the next to this fraction of its distance to 1."""


def mode(differences: Float[Tensor, "state width"], floor: float, first: int = 0) -> Rate:
    """The factor per iteration of the slowest mode in x_k - x*, and how well it is known.

    >>> turn = 0.5 * torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    >>> mode(torch.stack([torch.matrix_power(turn, k)[0] for k in range(20)]), 1e-6).value
    0.5

    Arguments:
        differences: x_k - x*, one after the other; more numbers than modes are needed, or a series of one number will do.
        floor: the norm below which a difference is mostly rounding.
        first: the k of the first.
    """
    d = differences.detach().to("cpu", torch.float64).numpy()
    norm = np.linalg.norm(d, axis=1)
    if not np.isfinite(norm).all():
        return none("the differences are not finite")
    low = np.flatnonzero(norm <= floor / EXPLAINED)
    end = int(low[0]) if len(low) else len(d)
    for order in ORDERS:
        length = max(order + 3 if d.shape[1] >= order else 2 * order + 3, end // 3)
        if length > end:
            break
        window = slice(end - length, end)
        value, left = _fit(d[window], norm[window], order)
        if left <= EXPLAINED and 0 < value < 1 - 1e-6:
            parts = [
                _fit(d[i : i + length - 2], norm[i : i + length - 2], order)[0]
                for i in range(end - length, end - length + 3)
            ]
            half = length // 2
            # A defective approach, k^m rho^k, looks straight and slows down all the same.
            if half >= order + 3:
                early, late = (
                    _fit(d[i : i + half], norm[i : i + half], order)[0] for i in (end - length, end - half)
                )
                parts += [value + (late - early) / 2, value - (late - early) / 2]
            error = max(float(np.std(parts)), value * left, np.finfo(float).eps)
            if error > DRIFT * (1 - value):  # no exponential: the factor itself goes on changing
                continue
            low, high = value - 2 * error, value + 2 * error
            modes = (
                f"the slowest of {order} modes that explain" if order > 1 else "the one mode that explains"
            )
            sentence = (
                f"The distance to the limit shrinks by the factor {value:.5g} ± {2 * error:.1g} per iteration ({modes} "
                f"states {first + end - length} to {first + end - 1})."
            )
            start = float(norm[end - length])
            return Rate(
                value,
                error,
                low,
                high,
                1 - left**2,
                first + end - length,
                first + end - 1,
                length,
                start,
                sentence,
            )
    return none(f"no {ORDERS[-1]} modes explain the approach")


def _fit(d: np.ndarray, norm: np.ndarray, order: int) -> tuple[float, float]:
    """The largest modulus of a root, and the root mean square of what the recurrence leaves, relative to the differences."""
    scale = 1 / np.maximum(norm[: len(d) - order], 1e-300)
    terms = np.stack([d[order - 1 - i : len(d) - 1 - i] * scale[:, None] for i in range(order)], -1).reshape(
        -1, order
    )
    goal = (d[order:] * scale[:, None]).reshape(-1)
    if len(goal) < order or not np.isfinite(terms).all() or not np.isfinite(goal).all():
        return math.nan, math.inf
    a, *_ = np.linalg.lstsq(terms, goal, rcond=1e-10)
    size = float(np.linalg.norm(goal))
    left = float(np.linalg.norm(goal - terms @ a)) / size if size > 0 else 0.0
    return float(np.abs(np.roots([1.0, *-a])).max()), left
