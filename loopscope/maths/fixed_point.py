"""Fixed points of a map: x* with F(x*) = x*, found by four methods, each row of a batch by itself.

- plain: x <- F(x). Finds what the loop itself would reach, and only that: attracting points.
- damped: x <- (1 - damping) x + damping F(x). Damps negative eigenvalues: it also finds points that
  the loop circles around.
- anderson: the combination of the last few iterates with the least residual (Anderson 1965; Walker
  & Ni 2011).
- newton: x <- x - (J - I)^-1 (F(x) - x), shortened until the residual falls; finds unstable points
  and saddles too. For rows of more than DENSE numbers scipy's newton_krylov (Knoll & Keyes 2004).

A solver's fixed point need not be where the loop goes: for z -> c - z Newton and Anderson find c /
2, which iteration never reaches.
"""

import torch
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from .anderson import solve_anderson
from .jacobian import Linearisation, Map, checked_state, row_sizes
from .newton import solve_newton
from .newton_krylov import solve_newton_krylov
from .solution import Solution
from .solver_rows import SolverRows, image

METHODS = ("plain", "damped", "anderson", "newton")
DENSE = 128
"""Numbers per row up to which Newton solves with the whole Jacobian, all rows at once."""


def solve(
    map: Map,
    start: Tensor,
    method: str = "plain",
    tolerance: float | None = None,
    *,
    max_iterations: int = 1000,
    scale: float | Tensor | None = None,
    damping: float = 0.5,
    memory: int = 5,
) -> Solution:
    """Look for a fixed point from each row of `start`.

    >>> solve(torch.cos, torch.ones(1, 1, dtype=torch.float64), "newton").point
    tensor([[0.7391]], dtype=torch.float64)

    Arguments:
        map: (batch, ...) to the same shape. Where it has a method `select_rows(places)`, the map
            for some of the rows, rows that are done cost nothing more.
        start: (batch, ...); a state with one axis is one row.
        method: one of METHODS.
        tolerance: of the residual; None: 10 times the precision of the numbers.
        max_iterations: the largest number of iterations; those of Newton cost more, and fewer are
            needed.
        scale: the norm that a small residual is measured against where the point itself is smaller,
            such as at the origin; one number or one per row. None: the norm of the start and of its
            image, whichever is larger.
        damping: of "damped", in (0, 1].
        memory: of "anderson": how many iterates it combines.

    Raises:
        LoopscopeError: an unknown method, or options outside their range.
    """
    _check(method, tolerance, max_iterations, damping, memory=memory)
    batch, n = row_sizes(checked_state(start))
    x = start.detach().clone().reshape(batch, n)
    tolerance = 10 * torch.finfo(x.dtype).eps if tolerance is None else tolerance
    f = image(map, x, start)
    if scale is None:
        least = torch.maximum(x.norm(dim=1), torch.nan_to_num(f, 0.0, 0.0, 0.0).norm(dim=1))
    else:
        least = torch.as_tensor(scale, dtype=x.dtype, device=x.device).expand(batch)
    search = SolverRows(map, start, x, f, least=least, tolerance=tolerance, max_iterations=max_iterations)
    if method == "newton" and n > DENSE:
        solve_newton_krylov(search)
    elif method == "newton":
        solve_newton(search, lambda x: Linearisation(map, x.reshape(start.shape)).dense())
    elif method == "anderson":
        solve_anderson(search, memory)
    else:
        _iterate(search, 1.0 if method == "plain" else damping)
    return search.solution(start, method)


def _check(method: str, tolerance: float | None, max_iterations: int, damping: float, *, memory: int) -> None:
    if method not in METHODS:
        raise LoopscopeError(
            f"method must be a known solver, but is {method!r}. {nearest(str(method), METHODS)}"
        )
    if not 0 < damping <= 1 or memory < 1 or max_iterations < 0 or not (tolerance is None or tolerance > 0):
        raise LoopscopeError(
            "a solver needs damping in (0, 1], memory of 1 or more, max_iterations of 0 or more and a "
            "tolerance above "
            f"0, but has damping={damping}, memory={memory}, max_iterations={max_iterations}, "
            f"tolerance={tolerance}. Leave out those that you don't need."
        )


def _iterate(search: SolverRows, damping: float) -> None:
    """Plain iteration, or damped where `damping` is below 1."""
    for k in range(1, search.max_iterations + 1):
        rows = search.unfinished()
        if not rows.any():
            return
        search.move(search.f if damping == 1.0 else torch.lerp(search.x, search.f, damping), rows, k)
