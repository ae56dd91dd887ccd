"""Newton's method for fixed points, with the whole Jacobian of every row."""

from collections.abc import Callable

import torch
from torch import Tensor

from .solver_rows import SolverRows


def solve_newton(search: SolverRows, jacobian: Callable[[Tensor], Tensor]) -> None:
    """Move all rows of a search at once by Newton's method; each step is halved until the residual
    of its row falls.

    Arguments:
        jacobian: flat rows (row, n) -> (row, n, n).
    """
    n = search.x.shape[1]
    eye = torch.eye(n, dtype=torch.float64, device=search.x.device)
    for k in range(1, search.max_iterations + 1):
        rows = search.unfinished()
        if not rows.any():
            return
        gap = (search.f - search.x).double()
        A = torch.nan_to_num(eye - jacobian(search.x).double(), 0.0, 0.0, 0.0)
        # least squares, as a singular system still has a best direction
        move = torch.linalg.lstsq(A.cpu(), gap[..., None].cpu(), driver="gelsd").solution[..., 0].to(search.x)
        x, before, length = search.x, gap.norm(dim=1).to(search.x.dtype), 1.0
        pending = rows.clone()
        best, moved = x, torch.zeros_like(rows)
        while pending.any() and length > 1e-3:
            trial = torch.where(pending[:, None], x + length * move, best)
            after = (search.F(trial) - trial).norm(dim=1)
            good = pending & (after <= (1 - 1e-3 * length) * before)
            best = torch.where(good[:, None], trial, best)
            moved, pending, length = moved | good, pending & ~good, length / 2
        search.stuck |= pending
        search.move(best, moved, k)
