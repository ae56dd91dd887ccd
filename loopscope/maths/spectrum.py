"""Eigenvalues and singular values of a map's Jacobian: how small differences grow or shrink in one
iteration.

An eigenvalue's modulus is a factor per iteration, its angle a rotation per iteration. The spectral
radius (the largest modulus) decides whether a fixed point attracts; the largest singular value is
how much one iteration can stretch a difference, which can exceed 1 although the radius doesn't
(non-normal growth: Trefethen & Embree 2005, "Spectra and Pseudospectra").

Up to DENSE numbers per row the whole Jacobian is formed. Its eigenvalues are those of the strongly
connected blocks of its non-zero entries: a causal model, whose positions form a block triangle, is
resolved position by position, where a general solver would see the pseudospectrum instead. Above
that, ARPACK's implicitly restarted Arnoldi (Lehoucq, Sorensen & Yang 1998) works from products J^T
u alone, whose eigenvalues are the same. Not plain power iteration, which misreads complex pairs.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ..common.errors import LoopscopeError
from .jacobian import Linearised, Map

Push = Callable[[Tensor], Tensor]

DENSE = 512
"""Numbers per row up to which the whole Jacobian is formed."""
TRIANGULAR = 3072
"""The same where the Jacobian falls into blocks, as a causal model's does ..."""
WHOLE = 2048
"""... and where ARPACK can't tell the leading eigenvalues apart, as those of a rotation, which all
have one modulus."""

VECTORS = 40
"""Of ARPACK, kept at a time: with 24 a random loop needs up to three times the products, with 12 a
leading value is missed."""
RESTARTS = 60
"""Of ARPACK, before it is given up."""


@dataclass(frozen=True)
class Spectrum:
    """Leading eigenvalues of each row's Jacobian, by falling modulus. NaN where they could not be
    found: `sentences` says why."""

    values: Complex[Tensor, "row count"]
    """Per iteration; a complex pair is two of them, the one above the real axis first."""
    error: Float[Tensor, "row count"]
    """What rounding in the Jacobian can move a value by, to first order: eps ‖J‖ times the value's
    condition number. NaN where it isn't known: without the left eigenvectors, unless asked for."""
    sentences: tuple[str, ...]
    """How each row's were found, or why not."""

    @property
    def radius(self) -> Float[Tensor, " row"]:
        """The largest modulus."""
        return self.values.abs()[:, 0]


def eigenvalues(map: Map, state: Tensor, count: int = 6, **options: Any) -> Complex[Tensor, "..."]:
    """The `count` leading eigenvalues of the Jacobian at `state`, (batch, count), or (count,) for a
    state without a batch.

    >>> eigenvalues(lambda x: x @ torch.tensor([[0.0, 0.9], [-0.9, 0.0]]), torch.zeros(1, 2), count=2)
    tensor([[0.+0.9j, 0.-0.9j]], dtype=torch.complex128)

    NaN where they can't be found; `spectrum` says why. Options as there.
    """
    result = spectrum(map, state, count, **options).values
    return result if state.ndim > 1 else result[0]


def spectral_radius(map: Map, state: Tensor, **options: Any) -> Float[Tensor, "..."]:
    """The largest modulus of the Jacobian's eigenvalues at `state`, (batch,), or a number for a
    state without a batch."""
    result = spectrum(map, state, 1, **options).radius
    return result if state.ndim > 1 else result[0]


def singular_value(map: Map, state: Tensor, *, alone: bool = False, seed: int = 0) -> Float[Tensor, "..."]:
    """The largest singular value of the Jacobian at `state`: the most that one iteration stretches
    a small difference.

    (batch,), or a number for a state without a batch; NaN where it can't be found. Options as for
    `spectrum`.
    """
    result = []
    for at, b in _rows(map, state, alone):
        if at.size <= DENSE:
            J = _numpy(at.dense()[b])
            result.append(float(np.linalg.norm(J, 2)) if np.isfinite(J).all() else float("nan"))
        else:
            result.append(norm(_operator(at, b), seed))
    values = torch.tensor(result, dtype=torch.float64)
    return values if state.ndim > 1 else values[0]


def spectrum(
    map: Map, state: Tensor, count: int = 6, *, errors: bool = False, alone: bool = False, seed: int = 0
) -> Spectrum:
    """The `count` leading eigenvalues of each row's Jacobian, with how well they are known.

    Arguments:
        state: (batch, ...); one row's Jacobian is n x n, with n the numbers in a row.
        count: how many; all n if there are fewer.
        errors: also find the left eigenvector of the leading value, which doubles the work of a
            large row, for `error`.
        alone: hand the map one row at a time, (1, ...). Faster, where the map doesn't know which
            row it is given.
        seed: of the vector that the search starts from.
    """
    if count < 1:
        raise LoopscopeError(f"count must be 1 eigenvalue or more, but is {count}.")
    values, error, sentences = [], [], []
    for at, b in _rows(map, state, alone):
        own, off, sentence = _row(at, b, min(count, at.size), errors, seed=seed)
        values.append(torch.from_numpy(own))
        error.append(torch.from_numpy(off))
        sentences.append(sentence)
    return Spectrum(torch.stack(values), torch.stack(error), tuple(sentences))


def norm(operator: Any, seed: int = 0) -> float:
    """The largest singular value of a scipy LinearOperator; NaN if ARPACK doesn't find it."""
    m, n = operator.shape
    if min(m, n) <= 16:
        whole = operator @ np.eye(n) if n <= m else operator.H @ np.eye(m)
        return float(np.linalg.norm(whole, 2)) if np.isfinite(whole).all() else float("nan")
    start = np.random.default_rng(seed).standard_normal(min(m, n))
    first = operator.rmatvec(operator.matvec(start)) if n <= m else operator.matvec(operator.rmatvec(start))
    if not np.isfinite(first).all():
        return float("nan")
    if not first.any():
        return 0.0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(
                sparse().svds(
                    operator,
                    k=1,
                    v0=start,
                    tol=1e-6,
                    return_singular_vectors=False,
                    maxiter=1000,
                    ncv=8,
                )[0]
            )
    except (sparse().ArpackError, np.linalg.LinAlgError):
        return float("nan")


def _rows(map: Map, state: Tensor, alone: bool) -> Iterator[tuple[Linearised, int]]:
    """Each row as (where its map is linearised, its number there)."""
    if alone and state.ndim > 1:
        for b in range(len(state)):
            yield Linearised(map, state[b : b + 1]), 0
    else:
        at = Linearised(map, state)
        for b in range(at.batch):
            yield at, b


def _row(
    at: Linearised, b: int, count: int, errors: bool, *, seed: int
) -> tuple[np.ndarray, np.ndarray, str]:
    eps = torch.finfo(at.state.dtype).eps
    nan = np.full(count, np.nan)
    if not torch.isfinite(at.value[b]).all():
        return nan + 0j, nan, "The map gives NaN or infinity at this state, so it has no Jacobian there."
    if at.size <= DENSE or (at.size <= TRIANGULAR and _splits(at, b, seed)):
        J = _numpy(at.dense()[b])
        if not np.isfinite(J).all():
            return nan + 0j, nan, "The Jacobian holds NaN or infinity at this state."
        if _blocks(J)[1] <= 2 * DENSE:
            return _whole(J, count, eps)
    values, error, how = _arnoldi(at, b, count, errors, eps=eps, seed=seed)
    if np.isnan(values).any() and at.size <= WHOLE:
        J = _numpy(at.dense()[b])
        return _whole(J, count, eps) if np.isfinite(J).all() else (values, error, how)
    return values, error, how


def _whole(J: np.ndarray, count: int, eps: float) -> tuple[np.ndarray, np.ndarray, str]:
    values, error = dense_eigenvalues(J, eps)
    how = f"From the whole Jacobian, {len(J)} x {len(J)}, in blocks of at most {_blocks(J)[1]}."
    return values[:count], error[:count], how


def dense_eigenvalues(J: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """All eigenvalues of a matrix by falling modulus, block by block, and what entries rounded to
    `eps` can move them by."""
    from scipy.linalg import eig, eigvals

    labels, _ = _blocks(J)
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
            error.append(np.full(len(members), np.nan))
            continue
        solved: Any = eig(block, left=True, right=True)
        own, left, right = solved
        angle = np.abs((left.conj() * right).sum(0))  # both have unit columns
        values.append(own)
        error.append(eps * np.linalg.norm(block) / np.maximum(angle, 1e-300))
    return _sorted(np.concatenate(values), np.concatenate(error))


def _blocks(J: np.ndarray) -> tuple[np.ndarray, int]:
    """The strongly connected component of each index, and the size of the largest."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    _, labels = connected_components(csr_array(J != 0), directed=True, connection="strong")
    return labels, int(np.bincount(labels).max())


def _splits(at: Linearised, b: int, seed: int) -> bool:
    """Whether the second half of a row leaves the first alone: the mark of a causal model, whose
    positions come in order."""
    v = torch.zeros_like(at.value)
    half = at.size // 2
    generator = torch.Generator().manual_seed(seed)
    v[b, half:] = torch.randn(at.size - half, generator=generator).to(v)
    return not at.forward(v)[b, : half // 2].any()


def _arnoldi(
    at: Linearised, b: int, count: int, errors: bool, *, eps: float, seed: int
) -> tuple[np.ndarray, np.ndarray, str]:
    linalg = sparse()
    nan = np.full(count, np.nan)
    J = operator(
        at.backward, at.forward, at.batch, at.size, b
    )  # transposed: a backward pass is the cheaper product
    start = np.random.default_rng(seed).standard_normal(at.size)
    once = J.matvec(start)
    if not np.isfinite(once).all():
        return nan + 0j, nan, "The Jacobian holds NaN or infinity at this state."
    if not once.any():  # a random vector lies in no subspace but the whole space
        return np.zeros(count, complex), np.zeros(count), "The Jacobian is zero."
    # A pair must not be cut in two, and the last found is the least sure; for the modulus of the
    # first alone neither matters, and each value more costs as many products again.
    more = 1 if count == 1 and not errors else min(count + 2, at.size - 2)
    tolerance = max(1e-7, 100 * eps)

    def search(operator: Any) -> Any:
        return linalg.eigs(
            operator,
            k=more,
            v0=start,
            tol=tolerance,
            ncv=min(at.size, max(2 * more + 8, VECTORS)),
            maxiter=RESTARTS,
        )

    try:
        values, vectors = search(J)
    except linalg.ArpackNoConvergence as error:
        got = len(error.eigenvalues)
        why = f"ARPACK found {got} of {more} eigenvalues in {RESTARTS} restarts: they lie too close together to be told apart."
        return nan + 0j, nan, why
    except linalg.ArpackError as error:
        return nan + 0j, nan, f"ARPACK failed: {str(error).strip()}."
    order = np.lexsort((-values.imag, -np.round(np.abs(values), 12)))
    values, vectors = values[order][:count], vectors[:, order][:, :count]
    size = max(float(np.linalg.norm(once) / np.linalg.norm(start)), abs(values[0]))
    left = [J.matvec(vectors[:, i].real) + 1j * J.matvec(vectors[:, i].imag) for i in range(len(values))]
    residual = np.array(
        [np.linalg.norm(w - lam * v) for w, lam, v in zip(left, values, vectors.T, strict=True)]
    )
    if (residual > 1e3 * max(eps, tolerance) * size).any():
        return nan + 0j, nan, f"What ARPACK gave are no eigenvalues: residual {residual.max():.2g}."
    error = np.full(len(values), np.nan)
    if errors:
        try:
            others, duals = search(J.T)
            same = int(np.argmin(np.abs(others - values[0])))
            cosine = abs(
                duals[:, same] @ vectors[:, 0]
            )  # J^T y = lambda y: y is the conjugate of the left vector
            error[0] = eps * size / max(cosine, 1e-300)
        except linalg.ArpackError:
            pass
    return values, error, f"By ARPACK, residual at most {residual.max():.2g}."


def _operator(at: Linearised, b: int) -> Any:
    """One row's Jacobian as scipy takes it."""
    return operator(at.forward, at.backward, at.batch, at.size, b)


def operator(forward: Push, backward: Push, batch: int, size: int, b: int) -> Any:
    """Row b of a product with flat rows (batch, size), and of its transpose, as a scipy
    LinearOperator."""

    def row_of(push: Push) -> Callable[[np.ndarray], np.ndarray]:
        def times(v: np.ndarray) -> np.ndarray:
            whole = torch.zeros(batch, size, dtype=torch.float64)
            whole[b] = torch.from_numpy(v.reshape(-1).copy())
            return _numpy(push(whole)[b])

        return times

    return sparse().LinearOperator(
        (size, size), matvec=row_of(forward), rmatvec=row_of(backward), dtype=np.float64
    )


def sparse() -> Any:
    """scipy.sparse.linalg, without its type stubs, which know neither LinearOperator's arguments
    nor a fractional tolerance."""
    from scipy.sparse import linalg

    return linalg


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().to("cpu", torch.float64).numpy()


def _sorted(values: Any, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((-values.imag, -values.real, -np.round(np.abs(values), 12)))
    return values[order], error[order]
