"""Fixed points of an iteration to the last digit, by Newton's method, and how well each is
determined.

A small residual alone is no fixed point: a slow drift has one too. Newton's method must converge
near the candidate, and its next step must be short.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ..maths.fixed_point import DENSE, Method, solve
from ..maths.jacobian import Linearisation
from ..maths.precision import RESOLVED, rounding
from .iteration_map import IterationMap


def nearest_fixed_point(loop: IterationMap, x: Tensor, size: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """(point, residual): the fixed point that Newton's method or Anderson's finds from each row x,
    to the precision of the numbers; NaN where neither finds one.

    Arguments:
        size: what residuals are measured against.
        scale: what motion is measured against; a residual must be a small part of it too, or
            rounding.
    """
    eps = torch.finfo(x.dtype).eps
    # long rows have larger rounding errors, and Krylov's search would not reach 4 eps there
    tolerance = 4 * eps if x.shape[1] <= DENSE else 100 * eps
    # of long rows Newton's search is the dearer one; a row that is done needs no second search
    methods: tuple[Method, Method] = ("newton", "anderson") if x.shape[1] <= DENSE else ("anderson", "newton")
    first = solve(loop, x, methods[0], tolerance, max_iterations=60, scale=size)
    point, residual = first.point, torch.nan_to_num(first.residual, torch.inf).to(x)
    left = (~first.converged).nonzero()[:, 0].tolist()
    if left:
        second = solve(
            loop.select_rows(left), x[left], methods[1], tolerance, max_iterations=60, scale=size[left]
        )
        other = torch.nan_to_num(second.residual, torch.inf).to(x)
        better = other < residual[left]
        point[left] = torch.where(better[:, None], second.point, point[left])
        residual[left] = torch.minimum(other, residual[left])
    nan = torch.full_like(residual, float("nan"))
    within = torch.maximum(rounding(size, eps), RESOLVED * scale) / torch.maximum(size, point.norm(dim=1))
    good = residual <= within.clamp(max=1e3 * eps)
    return torch.where(good[:, None], point, nan[:, None]), torch.where(good, residual, nan)


def refine_fixed_points(
    loop: IterationMap,
    x: Float[Tensor, "row n"],
    size: Float[Tensor, " row"],
    near: Float[Tensor, " row"],
) -> tuple[Tensor, Tensor, Tensor]:
    """(point, residual, condition ‖(I - J)^-1‖) of candidates x, to the precision of the numbers;
    NaN for candidates that are no fixed points.

    Long rows are refined by Anderson's method, all at once, and by Newton's, which takes them one
    by one, only where that doesn't find a point near them.

    Arguments:
        size: what distances are measured against.
        near: how near the point must lie to its candidate.
    """
    eps = torch.finfo(x.dtype).eps
    start, point = torch.nan_to_num(x), torch.full_like(x, torch.nan)
    residual, left = torch.full_like(size, torch.nan), x.isfinite().all(1)
    methods: tuple[Method, ...] = ("newton",) if x.shape[1] <= DENSE else ("anderson", "newton")
    for method in methods:
        rows = left.nonzero()[:, 0]
        if not len(rows):
            break
        part, most = loop.select_rows(rows.tolist()), 20 if method == "newton" else 60
        found = solve(part, start[rows], method, 100 * eps, max_iterations=most, scale=size[rows])
        good = found.converged & ((found.point - x[rows]).norm(dim=1) <= near[rows])
        point[rows] = torch.where(good[:, None], found.point, torch.nan)
        residual[rows] = torch.where(good, found.residual.to(x), torch.nan)
        left[rows] = ~good
    condition, step = condition_and_step(loop, point)
    good = (step <= near) & point.isfinite().all(1)
    return (
        torch.where(good[:, None], point, torch.nan),
        torch.where(good, residual, torch.nan),
        condition,
    )


def condition_and_step(
    loop: IterationMap, point: Float[Tensor, "row n"]
) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
    """(‖(I - J)^-1‖, the length of Newton's next step) at each point; 1 and 0 for rows of more than
    DENSE numbers."""
    condition, step = torch.ones_like(point[:, 0]), torch.zeros_like(point[:, 0])
    finite = point.isfinite().all(1)
    if point.shape[1] > DENSE or not finite.any():
        return condition, step
    linear = Linearisation(loop, torch.nan_to_num(point))
    A = torch.eye(linear.size, dtype=torch.float64) - linear.dense().double().cpu()
    A = torch.nan_to_num(A, 0.0, 0.0, 0.0)
    gap = (linear.value - linear.state).double().cpu()
    move = torch.linalg.lstsq(A, gap[..., None], driver="gelsd").solution[..., 0].norm(dim=1)
    least = torch.linalg.svdvals(A)[:, -1].clamp(min=1e-300)
    return torch.where(finite, (1 / least).to(condition), condition), torch.where(finite, move.to(step), step)
