"""The directions in which vectors vary most, without the decomposition of all of them."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .bidiagonal import bidiagonal_search

WHOLE = 256
"""Vectors, or numbers in each, up to which all eigenvectors cost no more than a search for one."""
STEPS, TOLERANCE = 100, 1e-12
"""Of the search for one; where it doesn't suffice, as of directions along which vectors vary alike,
all are computed."""


def leading_directions(
    x: Float[Tensor, "row width"], count: int
) -> tuple[Float[Tensor, "direction width"], Float[Tensor, " direction"]]:
    """(orthonormal directions, the root of the sum of squares along each), the largest first; fewer
    than `count` where no more are left. In double precision.

    A singular value decomposition computes all directions. Here each is searched for by products
    with X, or is the leading eigenvector of the smaller of X Xᵀ and Xᵀ X, and is taken out of X
    before the next, so that a small one is as exact as there. The sign is that of scikit-learn's
    PCA: the entry furthest from 0 is positive.

    Arguments:
        x: vectors less their mean, finite.
    """
    rest = x.detach().double()
    scale = rest.abs().amax() if rest.numel() else rest.new_zeros(())
    total = min(x.shape)
    directions: list[Tensor] = []
    sizes: list[Tensor] = []
    if float(scale) == 0:
        return rest.new_zeros(0, x.shape[1]), rest.new_zeros(0)
    rest = rest / scale  # else the squares of large numbers would overflow
    for _ in range(min(count, total)):
        found = _leading(rest)
        for other in directions:
            found = found - (found @ other) * other
        length = float(found.norm())
        if length == 0:
            break
        found = found / length
        found = found if float(found[found.abs().argmax()]) > 0 else -found
        along = rest @ found
        directions.append(found)
        sizes.append(along.norm() * scale)
        rest = rest - along[:, None] * found
    return torch.stack(directions), torch.stack(sizes)


def _leading(x: Float[Tensor, "row width"]) -> Float[Tensor, " width"]:
    """The direction along which the sum of squares is largest; of any length."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import aslinearoperator

    total, wide = min(x.shape), x.shape[1] > x.shape[0]
    if total > WHOLE:
        start = np.random.default_rng(0).standard_normal(total)
        result = bidiagonal_search(aslinearoperator(x.cpu().numpy()), start, TOLERANCE, STEPS)
        if result.residual <= TOLERANCE:
            found = torch.from_numpy(result.vector).to(x)
            return x.T @ found if wide else found
    product = x @ x.T if wide else x.T @ x
    _, vector = eigh(product.cpu().numpy(), subset_by_index=[total - 1, total - 1])
    found = torch.from_numpy(vector[:, 0]).to(x)
    return x.T @ found if wide else found
