"""Products with a Jacobian as scipy's LinearOperator, and the largest singular value of one."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .bidiagonal import bidiagonal_search
from .jacobian import Linearisation

STEPS, NUMBERS = 100, 1 << 23
"""Of the search for a singular value, at most: so many, or as many as have so many numbers in their
vectors; ARPACK follows."""
VECTORS = 20
"""Of ARPACK, kept at a time for a singular value: with 8 it takes up to three times the
products."""
LEAST = 16
"""Steps of the first search, at least: a value apart from a crowd of others is met in them."""
SAFETY = 0.1
"""The first search ends at this part of the tolerance."""

Product = Callable[[Tensor], Tensor]
"""Flat rows (batch, n) -> J v, or J^T u, of every row."""


def jacobian_operator(linear: Linearisation, b: int) -> Any:
    """The Jacobian of row b, (n, n), as a scipy LinearOperator; of the whole matrix where that was
    formed, with which products cost next to nothing."""
    if linear.whole is not None:
        return sparse().aslinearoperator(to_numpy(linear.whole[b]))
    return linear_operator(linear.forward, linear.backward, linear.batch, linear.size, row=b)


def linear_operator(forward: Product, backward: Product, batch: int, size: int, *, row: int) -> Any:
    """One row of a product with flat rows (batch, size), and of its transpose, as a scipy
    LinearOperator (size, size)."""

    def row_product(product: Product) -> Callable[[np.ndarray], np.ndarray]:
        def times(v: np.ndarray) -> np.ndarray:
            whole = torch.zeros(batch, size, dtype=torch.float64)
            whole[row] = torch.from_numpy(v.reshape(-1).copy())
            return to_numpy(product(whole)[row])

        return times

    return sparse().LinearOperator(
        (size, size), matvec=row_product(forward), rmatvec=row_product(backward), dtype=np.float64
    )


def operator_norm(operator: Any, seed: int = 0, tolerance: float = 1e-4) -> float:
    """The largest singular value of a scipy LinearOperator; NaN if it isn't found.

    Arguments:
        seed: of the vector that the search starts from.
        tolerance: of the residual of the value's square, relative to it. The value is off by half
            of it at most, and by its square where the value is apart from others.
    """
    m, n = operator.shape
    if min(m, n) <= 16:
        whole = operator @ np.eye(n) if n <= m else operator.H @ np.eye(m)
        return float(np.linalg.norm(whole, 2)) if np.isfinite(whole).all() else float("nan")
    start = np.random.default_rng(seed).standard_normal(min(m, n))
    steps = min(STEPS, min(m, n), max(VECTORS, NUMBERS // (m + n)))
    early = bidiagonal_search(operator, start, SAFETY * tolerance, steps, LEAST)
    if early.residual <= SAFETY * tolerance or np.isnan(early.value):
        return early.value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(
                sparse().svds(
                    operator,
                    k=1,
                    v0=early.vector,
                    tol=tolerance,
                    return_singular_vectors=False,
                    maxiter=1000,
                    ncv=min(m - 1, n - 1, VECTORS),
                )[0]
            )
    except (sparse().ArpackError, np.linalg.LinAlgError):
        return float("nan")


def sparse() -> Any:
    """scipy.sparse.linalg, without its type stubs, which lack LinearOperator's arguments and
    fractional tolerances."""
    from scipy.sparse import linalg

    return linalg


def to_numpy(x: Tensor) -> np.ndarray:
    """In double precision."""
    return x.detach().to("cpu", torch.float64).numpy()
