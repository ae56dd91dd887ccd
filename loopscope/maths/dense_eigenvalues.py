"""Eigenvalues of a whole matrix, block by block.

The blocks are the strongly connected components of its non-zero entries. A causal model, whose
positions form a block triangle, is resolved position by position, where a general solver would see
the pseudospectrum instead (Trefethen & Embree 2005, "Spectra and Pseudospectra").
"""

from typing import Any

import numpy as np

DENSE = 512
"""Numbers per row up to which the whole Jacobian is formed, and per block up to which all
eigenvectors are computed too, for the errors of the values; of larger blocks those of the first."""


def leading_dense_eigenvalues(
    J: np.ndarray, count: int, eps: float, blocks: tuple[np.ndarray, int] | None = None
) -> tuple[np.ndarray, np.ndarray, str]:
    """(values, error, a sentence) of the `count` leading eigenvalues; see `dense_eigenvalues`.

    Arguments:
        blocks: `strong_blocks` of J, where they are known.
    """
    labels, largest = strong_blocks(J) if blocks is None else blocks
    values, error = dense_eigenvalues(J, labels, eps)
    how = f"From the whole Jacobian, {len(J)} x {len(J)}, in blocks of at most {largest}."
    return values[:count], error[:count], how


def dense_eigenvalues(J: np.ndarray, labels: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """(all eigenvalues of a matrix by falling modulus, their errors).

    An error is what entries rounded to `eps` can move the value by, to first order; in blocks of
    more than DENSE numbers it is computed of the largest values, and NaN of the others.

    Arguments:
        labels: the block of each index.
    """
    from scipy.linalg import eig, eigvals

    order = np.argsort(labels, kind="stable")
    values, error = [], []
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        block = J[np.ix_(members, members)]
        if len(members) == 1:
            values.append(block[0].astype(complex))
            error.append(eps * np.abs(block[0]))
            continue
        if len(members) > DENSE:  # the vectors would cost several times the values
            values.append(eigvals(block))
            error.append(_errors_of_largest(block, values[-1], eps))
            continue
        solved: Any = eig(block, left=True, right=True)
        block_values, left, right = solved
        angle = np.abs((left.conj() * right).sum(0))  # both have unit columns
        values.append(block_values)
        with np.errstate(over="ignore"):  # of a map that overflows: an infinite error
            error.append(eps * np.linalg.norm(block) / np.maximum(angle, 1e-300))
    return _sorted(np.concatenate(values), np.concatenate(error))


def _errors_of_largest(block: np.ndarray, values: np.ndarray, eps: float) -> np.ndarray:
    """The errors of the values of the largest modulus, from the vectors of the first by inverse
    iteration; NaN elsewhere."""
    from scipy.linalg import LinAlgError, lu_factor, lu_solve

    size = np.linalg.norm(block)
    leading = int(np.argmax(np.abs(values)))
    error = np.full(len(values), np.nan)
    # shifted by less than the error, so that the matrix can be solved with
    shift = values[leading] + eps * size
    try:
        factors = lu_factor(block - shift * np.eye(len(block)))
    except LinAlgError:
        return error
    vectors = []
    for transposed in (0, 1):
        v = np.random.default_rng(0).standard_normal(len(block)) + 0j
        for _ in range(3):
            v = lu_solve(factors, v / np.linalg.norm(v), trans=transposed)
        vectors.append(v / np.linalg.norm(v))
    angle = abs(vectors[1] @ vectors[0])
    if np.isfinite(angle):
        same = np.isclose(np.abs(values), np.abs(values[leading]), rtol=1e-9)
        error[same] = eps * size / max(angle, 1e-300)
    return error


def strong_blocks(J: np.ndarray) -> tuple[np.ndarray, int]:
    """The strongly connected component of each index, and the size of the largest."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    _, labels = connected_components(csr_array(J != 0), directed=True, connection="strong")
    return labels, int(np.bincount(labels).max())


def _sorted(values: Any, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((-values.imag, -values.real, -np.round(np.abs(values), 12)))
    return values[order], error[order]
