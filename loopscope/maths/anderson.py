"""Anderson acceleration: the next iterate is a combination of the last few, with the least residual
(Anderson 1965; Walker & Ni 2011)."""

import torch
from torch import Tensor

from .solver_rows import SolverRows


def solve_anderson(search: SolverRows, memory: int) -> None:
    """Move the rows of a search by Anderson acceleration.

    Arguments:
        memory: how many iterates are combined, 1 or more.
    """
    history: list[tuple[Tensor, Tensor]] = []
    for k in range(1, search.max_iterations + 1):
        rows = search.unfinished()
        if not rows.any():
            return
        history = [*history, (search.x, search.f)][-memory:]
        search.move(_combination(history), rows, k)


def _combination(history: list[tuple[Tensor, Tensor]]) -> Tensor:
    """sum_i a_i F(x_i), with the weights, summing to one, whose residual sum_i a_i (F(x_i) - x_i)
    is least. `history`: (x, F(x)) of the last iterates, each (row, n)."""
    images = torch.stack([f for _, f in history], 1).double()
    gaps = images - torch.stack([x for x, _ in history], 1).double()
    # the weights don't depend on the unit of the gaps, and the square of a large gap would overflow
    gaps = torch.nan_to_num(gaps / gaps.abs().amax((1, 2), keepdim=True).clamp(min=1e-300))
    if len(history) == 1:
        return images[:, 0].to(history[0][0].dtype)
    differences = gaps[:, :-1] - gaps[:, -1:]  # (row, memory - 1, n)
    gram = differences @ differences.mT
    ridge = 1e-14 * gram.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-300)[:, None, None]
    # small eigenvalues are cut, since two iterates may be equal; where all differences are zero,
    # any weights will do
    values, vectors = torch.linalg.eigh(
        gram + ridge * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    )
    against = vectors.mT @ (differences @ -gaps[:, -1:].mT)
    cut = values[..., None] > 1e-12 * values.amax(1)[:, None, None]
    weights = vectors @ torch.where(cut, against / values[..., None], 0)
    mixed = images[:, -1] + (weights.mT @ (images[:, :-1] - images[:, -1:]))[:, 0]
    return mixed.to(history[0][0].dtype)
