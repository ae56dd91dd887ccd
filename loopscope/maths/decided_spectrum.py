"""Leading eigenvalues for a decision: on which side of a line the modulus of the first is."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from .arnoldi import WHOLE, condition_within, residuals
from .dense_eigenvalues import leading_dense_eigenvalues
from .jacobian import Linearisation
from .linear_operator import linear_operator, to_numpy
from .spectrum import Spectrum, whole_eigenvalues
from .two_sided import FIRST, CountedOperator, Line, bounded_eigenvalue, search

Row = tuple[np.ndarray, np.ndarray, str]


def decided_spectrum(
    rows: Iterable[tuple[Linearisation, int]], count: int, line: Line, *, seed: int = 0, products: int
) -> Spectrum:
    """The `count` leading eigenvalues of each row, of which the first is known so well that the
    line decides, if so many products allow it. Its error is a bound: infinity where there is none.
    The others are those that one search finds.

    Arguments:
        rows: (linearisation, row in it), as in `loopscope.maths.spectrum.rows_spectrum`.
        seed: of the vector that searches start from.
        products: with the Jacobian of a long row, at most, about.
    """
    results = [_row(linear, b, min(count, linear.size), line, seed, products) for linear, b in rows]
    values, errors, sentences = zip(*results, strict=True)
    return Spectrum(
        torch.stack([torch.from_numpy(one) for one in values]),
        torch.stack([torch.from_numpy(one) for one in errors]),
        sentences,
    )


def _row(linear: Linearisation, b: int, count: int, line: Line, seed: int, products: int) -> Row:
    whole = whole_eigenvalues(linear, b, count, seed)
    if whole is not None:
        return whole
    # transposed: a backward pass is the cheaper product
    J = CountedOperator(linear_operator(linear.backward, linear.forward, linear.batch, linear.size, row=b))
    start = np.random.default_rng(seed).standard_normal(linear.size)
    once = J.plain.matvec(start)
    nan, eps = np.full(count, np.nan), torch.finfo(linear.state.dtype).eps
    if not np.isfinite(once).all():
        return nan + 0j, nan, "The Jacobian holds NaN or infinity at this state."
    if not once.any():  # almost surely, since the start is random
        return np.zeros(count, complex), np.zeros(count), "The Jacobian is zero."
    several = None
    if count > 1:
        # a pair must not be cut in two, and the last value found is the least accurate
        several = search(J.plain, start, count + 2, FIRST, products // 2)
    size = float(np.linalg.norm(once) / np.linalg.norm(start))
    first = bounded_eigenvalue(J, start, line, eps=eps, size=size, products=products, rights=several)
    if not line.decides(abs(first.value), first.error) and linear.size <= WHOLE:
        dense = to_numpy(linear.dense()[b])
        if np.isfinite(dense).all():
            return leading_dense_eigenvalues(dense, count, eps)
    values, error = nan + 0j, nan.copy()
    values[0] = first.value.conjugate() if first.value.imag < 0 else first.value
    error[0] = first.error
    if several is not None:
        others, within = _others(J.plain, several, values[0])
        fit = min(count - 1, len(others))
        values[1 : 1 + fit], error[1 : 1 + fit] = others[:fit], within[:fit]
    return values, error, first.how


def _others(J: Any, searched: tuple[Any, Any], first: complex) -> tuple[np.ndarray, np.ndarray]:
    """(values, errors) of what was found besides the first. The condition numbers are those within
    the span of the vectors, lower bounds."""
    values, vectors = searched
    error = condition_within(vectors) * residuals(J, values, vectors)
    keep = np.arange(len(values)) != int(np.argmin(np.abs(values - first)))
    order = np.lexsort((-values[keep].imag, -np.round(np.abs(values[keep]), 12)))
    return values[keep][order], error[keep][order]
