"""How much a fixed point moves when the loop's input moves: ‖dx*/de‖ = ‖(I - J_x)^-1 J_e‖.

From F(x*, e) = x* by the implicit function theorem, with J_x and J_e the Jacobians with respect to
state and input; the gradient of deep equilibrium models (Bai, Kolter & Koltun 2019, arXiv
1909.01377) is its transpose.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..common.arguments import Seed
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from .arnoldi import WHOLE
from .jacobian import Linearisation, checked_state
from .linear_operator import operator_norm, sparse

TOLERANCE = 1e-3
"""Relative, of the square of a sensitivity; the linear systems of long rows are solved to a tenth
of it."""

Solver = Callable[[np.ndarray, bool], np.ndarray]
"""v -> (I - J_x)^-1 v, or transposed."""


@guarded
def sensitivity(
    map: Callable[[Tensor, Tensor], Tensor], state: Tensor, inputs: Tensor, seed: Seed = 0
) -> Float[Tensor, ""]:
    """The largest singular value of dx*/de at a fixed point, as one number; NaN where the linear
    systems can't be solved.

    >>> sensitivity(lambda x, e: 0.5 * x + e, torch.zeros(1, 3), torch.zeros(1, 3))  # x* = 2 e
    tensor(2., dtype=torch.float64)

    Arguments:
        map: F(x, e), a state of x's shape.
        state: x*, all of it one vector, whatever its shape.
        inputs: e, of any shape.
        seed: of the vector that the search starts from.
    """
    x, e = checked_state(state).detach(), checked_state(inputs).detach()
    n = x.numel()
    try:
        fits = getattr(map(x, e), "shape", None) == x.shape
    except RuntimeError as error:  # shapes that don't fit each other
        raise LoopscopeError(
            f"the map must take a state and inputs of these shapes, but raised: {error}"
        ) from error
    if not fits:
        raise LoopscopeError(
            f"the map must give a state of the shape {tuple(x.shape)}. Return such a tensor."
        )
    # One vector each: a leading axis of one row, so that no axis is treated as the batch.
    linear_x = Linearisation(lambda v: map(v.reshape(x.shape), e).reshape(1, n), x.reshape(1, n))
    return row_sensitivity(linear_x, map, x, e, seed=seed)


def row_sensitivity(
    linear_x: Linearisation,
    map: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    e: Tensor,
    *,
    seed: int = 0,
) -> Float[Tensor, ""]:
    """The sensitivity of a map that is linearised at its fixed point already; see `sensitivity`.

    Arguments:
        linear_x: v -> F(v, e) of one row (1, n).
    """
    n, m = x.numel(), e.numel()
    push, pull = _input_products(map, x, e)
    solve = _dense_solver(linear_x, n) if n <= WHOLE else _iterative_solver(linear_x, n)
    if solve is None:
        return torch.tensor(float("nan"), dtype=torch.float64)
    response = sparse().LinearOperator(
        (n, m), matvec=lambda v: solve(push(v), False), rmatvec=lambda u: pull(solve(u, True)), dtype=float
    )
    return torch.tensor(operator_norm(response, seed, TOLERANCE), dtype=torch.float64)


def _input_products(
    map: Callable[[Tensor, Tensor], Tensor], x: Tensor, e: Tensor
) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """v -> J_e v and u -> J_e^T u."""
    n, m = x.numel(), e.numel()

    def pad(v: Tensor) -> Tensor:
        return torch.cat([v, v.new_zeros(1, max(0, n - m))], 1)

    def wide(v: Tensor) -> Tensor:
        y = map(x, v[:, :m].reshape(e.shape)).reshape(1, n)
        return torch.cat([y, y.new_zeros(1, max(0, m - n))], 1)

    linear_e = Linearisation(wide, pad(e.reshape(1, m).to(x.dtype)))  # square, as a Jacobian's map must be

    def push(v: np.ndarray) -> np.ndarray:
        whole = torch.zeros(1, max(n, m), dtype=torch.float64)
        whole[0, :m] = torch.from_numpy(v.reshape(-1).copy())
        return _numpy(linear_e.forward(whole))[:n]

    def pull(u: np.ndarray) -> np.ndarray:
        whole = torch.zeros(1, max(n, m), dtype=torch.float64)
        whole[0, :n] = torch.from_numpy(u.reshape(-1).copy())
        return _numpy(linear_e.backward(whole))[:m]

    return push, pull


def _dense_solver(linear_x: Linearisation, n: int) -> Solver | None:
    """(I - J_x)^-1 by its factors; None where it has no inverse."""
    from scipy.linalg import lu_factor, lu_solve

    A = np.eye(n) - _numpy(linear_x.dense()[0]).reshape(n, n)
    if not np.isfinite(A).all():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a singular matrix, which the next line finds
        factors = lu_factor(A)
    if np.abs(np.diag(factors[0])).min() <= np.finfo(float).eps * np.abs(A).max():
        return None  # an eigenvalue of J is 1
    return lambda v, transposed: lu_solve(factors, v, trans=int(transposed))


def _iterative_solver(linear_x: Linearisation, n: int) -> Solver:
    """(I - J_x)^-1 by products with J_x alone; NaN where that doesn't converge."""
    linalg = sparse()
    J = [linear_x.forward, linear_x.backward]

    def solve(v: np.ndarray, transposed: bool) -> np.ndarray:
        times = J[transposed]

        def without(w: np.ndarray) -> np.ndarray:
            return w - _numpy(times(torch.from_numpy(w.reshape(1, n).copy())))

        within = linalg.LinearOperator((n, n), matvec=without, dtype=float)
        result, failed = linalg.gmres(within, v, rtol=TOLERANCE / 10, maxiter=20, restart=50)
        return result if not failed else np.full(n, np.nan)

    return solve


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().to("cpu", torch.float64).numpy().reshape(-1)
