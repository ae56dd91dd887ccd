"""Eigenvalues of a map's Jacobian: how small differences grow or shrink in one iteration.

An eigenvalue's modulus is a factor per iteration, its angle a rotation per iteration. The spectral
radius (the largest modulus) decides whether a fixed point attracts; the largest singular value is
how much one iteration can stretch a difference (`loopscope.maths.singular_value`), which can exceed
1 although the radius doesn't (non-normal growth: Trefethen & Embree 2005, "Spectra and
Pseudospectra").

Up to DENSE numbers per row the whole Jacobian is formed (`dense_eigenvalues`). Longer rows are
solved from products alone (`arnoldi`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ..common.arguments import Positive, PositiveCount, Seed
from ..common.guard import guarded
from .arnoldi import WHOLE, arnoldi_eigenvalues
from .dense_eigenvalues import DENSE, leading_dense_eigenvalues, strong_blocks
from .jacobian import Linearisation, Map, linearised_rows
from .linear_operator import to_numpy

TRIANGULAR = 3072
"""Numbers per row up to which the whole Jacobian is formed where it falls into blocks, as a causal
model's does."""
PRODUCTS = 2000
"""With the Jacobian of a row, in one search, at most; about."""
TOLERANCE = 1e-8
"""Of residuals. In a map far from normal an eigenvalue is off by many times its residual: at 1e-5
one of 0.997 came out as 1.001."""


@dataclass(frozen=True)
class Spectrum:
    """Leading eigenvalues of each row's Jacobian, by falling modulus. NaN where they could not be
    found; `sentences` gives the reason."""

    values: Complex[Tensor, "row count"]
    """Per iteration; a complex pair is two of them, the one above the real axis first."""
    error: Float[Tensor, "row count"]
    """How far a value may be off, to first order: its condition number times the sum of eps ‖J‖,
    for rounding in the Jacobian, and of its residual. Of long rows the condition number is that
    within the span of the eigenvectors that were found, a lower bound, unless `spectrum`'s `errors`
    is set. NaN in blocks of more than DENSE numbers of a whole Jacobian."""
    sentences: tuple[str, ...]
    """By which method each row's values were computed, or why there are none."""

    @property
    def radius(self) -> Float[Tensor, " row"]:
        """The largest modulus."""
        return self.values.abs()[:, 0]


@guarded
def eigenvalues(map: Map, state: Tensor, count: PositiveCount = 6, **options: Any) -> Complex[Tensor, "..."]:
    """The `count` leading eigenvalues of the Jacobian at `state`, (batch, count), or (count,) for a
    state without a batch.

    >>> eigenvalues(lambda x: x @ torch.tensor([[0.0, 0.9], [-0.9, 0.0]]), torch.zeros(1, 2), count=2)
    tensor([[0.+0.9000j, 0.-0.9000j]], dtype=torch.complex128)

    NaN where they can't be found; `spectrum` gives the reason. Options as there.
    """
    result = spectrum(map, state, count, **options).values
    return result if state.ndim > 1 else result[0]


@guarded
def spectral_radius(map: Map, state: Tensor, **options: Any) -> Float[Tensor, "..."]:
    """The largest modulus of the Jacobian's eigenvalues at `state`, (batch,), or a number for a
    state without a batch. Below 1 the map contracts small differences in the long run.

    >>> spectral_radius(lambda x: x @ torch.tensor([[0.5, 2.0], [0.0, 0.5]]), torch.zeros(1, 2))
    tensor([0.5000], dtype=torch.float64)

    Options as for `spectrum`.
    """
    result = spectrum(map, state, 1, **options).radius
    return result if state.ndim > 1 else result[0]


@guarded
def spectrum(
    map: Map,
    state: Tensor,
    count: PositiveCount = 6,
    *,
    errors: bool = False,
    row_by_row: bool = False,
    seed: Seed = 0,
    products: PositiveCount = PRODUCTS,
    tolerance: Positive = TOLERANCE,
) -> Spectrum:
    """The `count` leading eigenvalues of each row's Jacobian, with their errors.

    Arguments:
        state: (batch, ...); one row's Jacobian is n x n, with n the numbers in a row.
        count: how many; all n if there are fewer.
        errors: also find the left eigenvectors of a long row, for the condition numbers in `error`;
            half as much work again.
        row_by_row: pass one row at a time to the map, (1, ...). Faster, where the map treats all
            rows alike, whichever they are.
        seed: of the vector that the search starts from.
        products: with the Jacobian of a long row, at most, about. Where they don't suffice to tell
            many crowded eigenvalues apart, the first alone is looked for.
        tolerance: of the residual of a long row's values, relative to them.

    Raises:
        LoopscopeError: a count below 1.
    """
    rows = linearised_rows(map, state, row_by_row)
    return rows_spectrum(rows, count, errors=errors, seed=seed, products=products, tolerance=tolerance)


def rows_spectrum(
    rows: Iterable[tuple[Linearisation, int]],
    count: int,
    *,
    errors: bool = False,
    seed: int = 0,
    products: int = PRODUCTS,
    tolerance: float = TOLERANCE,
) -> Spectrum:
    """The spectrum of rows of maps that are linearised already; see `spectrum`.

    Arguments:
        rows: (linearisation, row in it).
    """
    values, error, sentences = [], [], []
    for linear, b in rows:
        row = _row_eigenvalues(
            linear, b, min(count, linear.size), errors, seed=seed, products=products, tolerance=tolerance
        )
        values.append(torch.from_numpy(row[0]))
        error.append(torch.from_numpy(row[1]))
        sentences.append(row[2])
    return Spectrum(torch.stack(values), torch.stack(error), tuple(sentences))


def _row_eigenvalues(
    linear: Linearisation,
    b: int,
    count: int,
    errors: bool,
    *,
    seed: int,
    products: int,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray, str]:
    whole = whole_eigenvalues(linear, b, count, seed)
    if whole is not None:
        return whole
    eps = torch.finfo(linear.state.dtype).eps
    values, error, how = arnoldi_eigenvalues(
        linear, b, count, errors, eps=eps, seed=seed, products=products, tolerance=tolerance
    )
    if np.isnan(values).any() and linear.size <= WHOLE:
        J = to_numpy(linear.dense()[b])
        return leading_dense_eigenvalues(J, count, eps) if np.isfinite(J).all() else (values, error, how)
    return values, error, how


def whole_eigenvalues(
    linear: Linearisation, b: int, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray, str] | None:
    """(values, error, a sentence) of a row whose whole Jacobian is formed, as it is short or falls
    into blocks, or which has none; None for the others."""
    nan = np.full(count, np.nan)
    if not torch.isfinite(linear.value[b]).all():
        return nan + 0j, nan, "The map gives NaN or infinity at this state, so it has no Jacobian there."
    if linear.size <= DENSE or (linear.size <= TRIANGULAR and _splits(linear, b, seed)):
        J = to_numpy(linear.dense()[b])
        if not np.isfinite(J).all():
            return nan + 0j, nan, "The Jacobian holds NaN or infinity at this state."
        blocks = strong_blocks(J)
        if blocks[1] <= 2 * DENSE:
            return leading_dense_eigenvalues(J, count, torch.finfo(linear.state.dtype).eps, blocks)
    return None


def _splits(linear: Linearisation, b: int, seed: int) -> bool:
    """Whether the second half of a row has no effect on the first, as in a causal model, whose
    positions come in order; by a product with the transpose, which is the cheaper one."""
    u = torch.zeros_like(linear.value)
    half = linear.size // 2
    generator = torch.Generator().manual_seed(seed)
    u[b, : half // 2] = torch.randn(half // 2, generator=generator).to(u)
    return not linear.backward(u)[b, half:].any()
