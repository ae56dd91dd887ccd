"""Leading eigenvalues of a Jacobian from products alone: ARPACK's implicitly restarted Arnoldi
(Lehoucq, Sorensen & Yang 1998).

It works on J^T u, whose eigenvalues are those of J, since a backward pass is the cheaper product.
Not plain power iteration, which misreads complex pairs. Where many eigenvalues crowd at the edge, a
search with few vectors restarts for ever; it is given up early, and one that keeps more of them
follows (`MANY`).

The error of a value is, to first order, its condition number times what its residual and rounding
leave open (Trefethen & Embree 2005, "Spectra and Pseudospectra", section 52). The condition number
needs a left and a right vector. From one search both are known within the span of the vectors that
were found, where the departure from normality shows, but no further: a lower bound. With `errors` a
second search gives the others; as a condition number needs one digit, it is far shorter.
"""

from typing import Any, NamedTuple

import numpy as np

from .jacobian import Linearisation
from .linear_operator import linear_operator, sparse


class Search(NamedTuple):
    """How ARPACK searches."""

    vectors: int
    """Kept at a time: with 24 a random loop needs up to three times the products, with 12 a leading
    value is missed."""
    products: int
    """With the Jacobian, before it gives up; about."""
    tolerance: float
    """Of the residual, relative to the value."""


FEW = Search(40, 220, 1e-5)
"""The first search: what leads clearly is found with few vectors."""
SEVERAL = Search(120, 1200, 1e-5)
"""The second one of a row whose whole Jacobian can be formed where this fails too."""
MANY = Search(240, 2000, 3e-2)
"""The second one of a longer row: more digits of a crowded spectrum would cost thousands of
products."""
ONE_DIGIT = Search(40, 300, 1e-2)
"""For the vectors that only condition numbers need."""
WHOLE = 2048
"""Numbers per row up to which the whole Jacobian is formed where ARPACK can't separate the leading
eigenvalues, as those of a rotation, which all have one modulus."""


# It is long because a search has two ways to fail, and each is a sentence.
def arnoldi_eigenvalues(
    linear: Linearisation,
    b: int,
    count: int,
    errors: bool,
    *,
    eps: float,
    seed: int,
    products: int,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray, str]:
    """(values, error, a sentence) of the `count` leading eigenvalues of row b's Jacobian. NaN where
    ARPACK finds none, and the sentence gives the reason.

    Arguments:
        errors: also find left eigenvectors, for condition numbers that hold beyond the span of the
            others.
        eps: the precision of the Jacobian's entries.
        seed: of the vector that the search starts from.
        products: the most that a search may take, about. Where they don't suffice for all of many
            crowded values, the first alone is looked for.
        tolerance: of the residual, relative to the value.
    """
    nan = np.full(count, np.nan)
    # transposed: a backward pass is the cheaper product
    J = linear_operator(linear.backward, linear.forward, linear.batch, linear.size, row=b)
    start = np.random.default_rng(seed).standard_normal(linear.size)
    once = J.matvec(start)
    if not np.isfinite(once).all():
        return nan + 0j, nan, "The Jacobian holds NaN or infinity at this state."
    if not once.any():  # almost surely, since the start is random
        return np.zeros(count, complex), np.zeros(count), "The Jacobian is zero."
    # A pair must not be cut in two, and the last value found is the least accurate. For the modulus
    # of the first alone neither matters, and each further value costs as many products again.
    more = 1 if count == 1 and not errors else min(count + 2, linear.size - 2)
    first = FEW._replace(tolerance=tolerance, products=max(FEW.products, products // 3))
    second = (
        SEVERAL._replace(tolerance=tolerance)
        if linear.size <= WHOLE
        else MANY._replace(products=min(products, MANY.products))
    )
    fewer = more if second.products >= 4 * second.vectors else 1
    try:
        values, vectors, search = _first_that_finds(J, start, [(first, more), (second, fewer)], eps)
    except sparse().ArpackNoConvergence as error:
        reason = (
            f"ARPACK found {len(error.eigenvalues)} of {fewer} eigenvalues in "
            f"{first.products + second.products} products: they lie too close together to be told apart."
        )
        return nan + 0j, nan, reason
    except sparse().ArpackError as error:
        return nan + 0j, nan, f"ARPACK failed: {str(error).strip()}."
    order = np.lexsort((-values.imag, -np.round(np.abs(values), 12)))
    values, vectors = values[order], vectors[:, order]
    size = max(float(np.linalg.norm(once) / np.linalg.norm(start)), abs(values[0]))
    condition = condition_within(vectors)[:count]
    if errors:
        condition = np.maximum(condition, _condition(J, values, vectors, count))
    values, vectors = values[:count], vectors[:, :count]
    residual = residuals(J, values, vectors)
    if (residual > 1e3 * max(eps, search.tolerance) * size).any():
        return nan + 0j, nan, f"What ARPACK returned are no eigenvalues: residual {residual.max():.2g}."
    how = f"By ARPACK, residual at most {residual.max():.2g}."
    if len(values) < count:
        how = f"{how[:-1]}; the others lie too close together to be told apart."
    return _filled(values, nan + 0j), _filled(condition * (residual + eps * size), nan), how


def _filled(values: np.ndarray, nan: np.ndarray) -> np.ndarray:
    """`values`, with NaN after them."""
    return np.concatenate([values, nan[len(values) :]])


def condition_within(vectors: np.ndarray) -> np.ndarray:
    """The condition numbers of eigenvalues in the span of their unit eigenvectors, the columns: 1
    for a normal matrix, whose eigenvectors are orthogonal."""
    # the rows of the inverse of R are as long as those of the pseudoinverse of the vectors
    return np.linalg.norm(np.linalg.pinv(np.linalg.qr(vectors, mode="r")), axis=1)


def _first_that_finds(
    J: Any, start: np.ndarray, searches: list[tuple[Search, int]], eps: float
) -> tuple[Any, Any, Search]:
    """(values, vectors, search) of the first (search, count) that finds as many."""
    for search, count in searches[:-1]:
        try:
            return *_search(J, start, count, search, eps), search
        except sparse().ArpackNoConvergence:
            continue
    search, count = searches[-1]
    return *_search(J, start, count, search, eps), search


def _search(operator: Any, start: np.ndarray, count: int, search: Search, eps: float) -> tuple[Any, Any]:
    """(values, vectors) of the largest modulus."""
    vectors = min(len(start), max(2 * count + 8, search.vectors))
    return sparse().eigs(
        operator,
        k=count,
        v0=start,
        tol=max(search.tolerance, 100 * eps),
        ncv=vectors,
        maxiter=max(2, (search.products - count) // max(1, vectors - count)),
    )


def residuals(J: Any, values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The norm of J v - lambda v of each pair; one of a conjugate pair stands for both."""
    residual: dict[complex, float] = {}
    for value, v in zip(values, vectors.T, strict=True):
        key = complex(value.real, abs(value.imag))
        if key not in residual:
            image = J.matvec(v.real) + (1j * J.matvec(v.imag) if v.imag.any() else 0)
            residual[key] = float(np.linalg.norm(image - value * v))
    return np.array([residual[complex(value.real, abs(value.imag))] for value in values])


def _condition(J: Any, values: np.ndarray, vectors: Any, count: int) -> np.ndarray:
    """The condition numbers of the first `count` values, from the vectors of the transposed
    operator too; 1 for a value that isn't found again."""
    # of a normal matrix both are the same, so the search begins where the first one ended
    start = np.ascontiguousarray(vectors.real.sum(1))
    try:
        others, duals = _search(J.T, start, len(values), ONE_DIGIT, 0.0)
    except sparse().ArpackError:
        return np.ones(count)
    result = np.ones(count)
    for i, value in enumerate(values[:count]):
        same = int(np.argmin(np.abs(others - value)))
        if abs(others[same] - value) <= 10 * ONE_DIGIT.tolerance * abs(value):
            # J^T y = lambda y: y is the conjugate of the left eigenvector
            result[i] = 1 / max(abs(duals[:, same] @ vectors[:, i]), 1e-300)
    return result
