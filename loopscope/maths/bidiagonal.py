"""The largest singular value of an operator by Golub-Kahan bidiagonalisation (Golub & Kahan 1965),
which can stop after any step, and so takes fewer products than ARPACK with its restarts."""

from typing import Any, NamedTuple

import numpy as np


class Largest(NamedTuple):
    """The largest singular value so far."""

    value: float
    residual: float
    """‖A^T A v - value² v‖ / value²."""
    vector: np.ndarray
    """v, on the shorter side of the operator."""


def bidiagonal_search(
    operator: Any, start: np.ndarray, tolerance: float, steps: int, least: int = 1
) -> Largest:
    """The largest singular value of a scipy LinearOperator after at most so many steps, each a
    product with it and one with its transpose. Fewer, once its residual is within the tolerance.
    NaN where a product holds NaN or infinity.

    Arguments:
        least: steps before its residual counts. Among many values that lie close together it may be
            small after one step, when a larger one hasn't been met yet.
        start: of the length of the operator's shorter side, finite and not all zero.
    """
    m, n = operator.shape
    forward, back = (operator.matvec, operator.rmatvec) if n <= m else (operator.rmatvec, operator.matvec)
    right, left = [start / np.linalg.norm(start)], []
    diagonal: list[float] = []
    above: list[float] = []
    while True:
        u, size = _orthogonal(forward(right[-1]), left)
        diagonal.append(size)
        left.append(u)
        v, beta = _orthogonal(back(u), right)
        if not np.isfinite([size, beta]).all():
            return Largest(np.nan, np.nan, start)
        p, values, q = np.linalg.svd(np.diag(diagonal) + np.diag(above, 1))
        value = float(values[0])
        residual = beta * abs(float(p[-1, 0])) / value if value > 0 else 0.0
        exhausted = beta <= 1e-13 * value  # a random start has a part of every direction
        if (residual <= tolerance and len(left) >= least) or exhausted or len(left) >= steps:
            vector = np.stack(right[: len(left)], 1) @ q[0]
            return Largest(value, residual, vector)
        above.append(beta)
        right.append(v)


def _orthogonal(x: np.ndarray, others: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """(the unit vector of what is orthogonal to others, its length); twice, as rounding leaves some
    of them the first time."""
    if not np.isfinite(x).all():
        return x, np.nan
    for _ in range(2 if others else 0):
        basis = np.stack(others, 1)
        x = x - basis @ (basis.T @ x)
    size = float(np.linalg.norm(x))
    return (x / size if size > 0 else x), size
