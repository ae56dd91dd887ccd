"""Leading eigenvalues of a Jacobian from products alone: ARPACK's implicitly restarted Arnoldi
(Lehoucq, Sorensen & Yang 1998).

It works on J^T u, whose eigenvalues are those of J, since a backward pass is the cheaper product.
Not plain power iteration, which misreads complex pairs.
"""

from typing import Any

import numpy as np

from .jacobian import Linearisation
from .linear_operator import linear_operator, sparse

VECTORS = 40
"""Of ARPACK, kept at a time: with 24 a random loop needs up to three times the products, with 12 a
leading value is missed."""
RESTARTS = 60
"""Of ARPACK, before it gives up."""


def arnoldi_eigenvalues(
    linear: Linearisation, b: int, count: int, errors: bool, *, eps: float, seed: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """(values, error, a sentence) of the `count` leading eigenvalues of row b's Jacobian. NaN where
    ARPACK finds none, and the sentence gives the reason.

    Arguments:
        errors: also find the left eigenvector of the leading value, for its error.
        eps: the precision of the Jacobian's entries.
        seed: of the vector that the search starts from.
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
    tolerance = max(1e-7, 100 * eps)
    linalg = sparse()
    try:
        values, vectors = _search(J, start, more, tolerance)
    except linalg.ArpackNoConvergence as error:
        reason = (
            f"ARPACK found {len(error.eigenvalues)} of {more} eigenvalues in {RESTARTS} restarts: they lie "
            "too close together to be told apart."
        )
        return nan + 0j, nan, reason
    except linalg.ArpackError as error:
        return nan + 0j, nan, f"ARPACK failed: {str(error).strip()}."
    order = np.lexsort((-values.imag, -np.round(np.abs(values), 12)))
    values, vectors = values[order][:count], vectors[:, order][:, :count]
    size = max(float(np.linalg.norm(once) / np.linalg.norm(start)), abs(values[0]))
    images = [J.matvec(vectors[:, i].real) + 1j * J.matvec(vectors[:, i].imag) for i in range(len(values))]
    residual = np.array(
        [np.linalg.norm(w - lam * v) for w, lam, v in zip(images, values, vectors.T, strict=True)]
    )
    if (residual > 1e3 * max(eps, tolerance) * size).any():
        return nan + 0j, nan, f"What ARPACK returned are no eigenvalues: residual {residual.max():.2g}."
    error = np.full(len(values), np.nan)
    if errors:
        try:
            others, duals = _search(J.T, start, more, tolerance)
        except linalg.ArpackError:
            pass
        else:
            same = int(np.argmin(np.abs(others - values[0])))
            # J^T y = lambda y: y is the conjugate of the left eigenvector
            cosine = abs(duals[:, same] @ vectors[:, 0])
            error[0] = eps * size / max(cosine, 1e-300)
    return values, error, f"By ARPACK, residual at most {residual.max():.2g}."


def _search(operator: Any, start: np.ndarray, count: int, tolerance: float) -> Any:
    """(values, vectors) of the largest modulus."""
    return sparse().eigs(
        operator,
        k=count,
        v0=start,
        tol=tolerance,
        ncv=min(len(start), max(2 * count + 8, VECTORS)),
        maxiter=RESTARTS,
    )
