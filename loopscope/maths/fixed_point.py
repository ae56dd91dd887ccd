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

from typing import Annotated, Literal

import torch
from annotated_types import Gt, Le
from torch import Tensor

from ..common.arguments import Count, Meaning, Positive, PositiveCount
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from .anderson import solve_anderson
from .jacobian import Linearisation, Map, checked_state, row_sizes
from .newton import solve_newton
from .newton_krylov import solve_newton_krylov
from .solution import Solution
from .solver_rows import SolverRows, image

_Damping = Annotated[float, Gt(0), Le(1), Meaning("a number above 0, at most 1")]
Method = Literal["plain", "damped", "anderson", "newton"]
DENSE = 128
"""Numbers per row up to which Newton solves with the whole Jacobian, all rows at once."""


@guarded
def solve(
    map: Map,
    start: Tensor,
    method: Method = "plain",
    tolerance: Positive | None = None,
    *,
    max_iterations: Count = 1000,
    scale: float | Tensor | None = None,
    damping: _Damping = 0.5,
    memory: PositiveCount = 5,
) -> Solution:
    """Look for a fixed point from each row of `start`.

    >>> solve(torch.cos, torch.ones(1, 1, dtype=torch.float64), "newton").point
    tensor([[0.7391]], dtype=torch.float64)

    Arguments:
        map: (batch, ...) to the same shape. Where it has a method `select_rows(places)`, the map
            for some of the rows, rows that are done cost nothing more.
        start: (batch, ...); a state with one axis is one row.
        method: plain or damped iteration, Anderson mixing, or Newton.
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
    batch, n = row_sizes(checked_state(start))
    x = start.detach().clone().reshape(batch, n)
    tolerance = 10 * torch.finfo(x.dtype).eps if tolerance is None else tolerance
    f = image(map, x, start)
    if scale is None:
        least = torch.maximum(x.norm(dim=1), torch.nan_to_num(f, 0.0, 0.0, 0.0).norm(dim=1))
    else:
        least = torch.as_tensor(scale, dtype=x.dtype, device=x.device)
        if least.ndim > 1 or least.numel() not in (1, batch) or not bool(least.isfinite().all()):
            raise LoopscopeError(
                f"scale must be one finite number, or one for each of {batch} rows, but has the shape "
                f"{tuple(least.shape)}."
            )
        least = least.expand(batch)
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


def _iterate(search: SolverRows, damping: float) -> None:
    """Plain iteration, or damped where `damping` is below 1."""
    for k in range(1, search.max_iterations + 1):
        rows = search.unfinished()
        if not rows.any():
            return
        search.move(search.f if damping == 1.0 else torch.lerp(search.x, search.f, damping), rows, k)
