"""Newton's method for fixed points of long rows, without the Jacobian: scipy's newton_krylov (Knoll
& Keyes 2004)."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .solver_rows import SolverRows

PATIENCE = 4
"""Steps within which the residual must halve; otherwise the search is given up."""


def solve_newton_krylov(search: SolverRows) -> None:
    """Move the rows of a search by newton_krylov, one row at a time."""
    from scipy.optimize import NoConvergence, newton_krylov

    base, eps = search.x.clone(), torch.finfo(search.x.dtype).eps
    for b in search.unfinished().nonzero()[:, 0].tolist():
        calls, F = 0, search.row_map(b)

        def gap(v: np.ndarray, F: Callable[[Tensor], Tensor] = F) -> np.ndarray:
            nonlocal calls
            calls += 1
            x = torch.from_numpy(v)
            return (F(x.to(base)).double().cpu() - x).numpy()

        gaps: list[float] = []

        def watch(v: np.ndarray, f: np.ndarray, gaps: list[float] = gaps) -> None:
            gaps.append(float(np.linalg.norm(f)))
            if len(gaps) > PATIENCE and not gaps[-1] < gaps[-1 - PATIENCE] / 2:
                raise NoConvergence(v)  # close to a fixed point Newton's method is far faster

        size = float(max(base[b].norm(), search.least[b])) or 1.0
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                result = newton_krylov(
                    gap,
                    base[b].double().cpu().numpy(),
                    f_tol=search.tolerance * size / 2,
                    maxiter=min(search.max_iterations, 100),
                    rdiff=eps**0.5,
                    tol_norm=np.linalg.norm,
                    callback=watch,
                )
            except NoConvergence as error:
                result = np.asarray(error.args[0])
                search.stuck[b] = True
            except (ValueError, np.linalg.LinAlgError):  # NaN or infinity in an iterate
                result = np.full(search.x.shape[1], np.nan)
        to = search.x.clone()
        to[b] = torch.from_numpy(result).to(to)
        rows = torch.zeros_like(search.overflow)
        rows[b] = True
        search.move(to, rows, calls)
        search.stuck[b] &= bool(search.residual()[b] > search.tolerance)
