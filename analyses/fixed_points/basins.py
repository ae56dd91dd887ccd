"""Basins: where other starts than a run's own lead, by iteration and by solvers, and the fixed
points that there are."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.limit_point import FAR, Limit
from loopscope.dynamics.newton_point import refine_fixed_points
from loopscope.maths.fixed_point import DENSE, solve
from loopscope.maths.point_clusters import cluster
from loopscope.maths.spectrum import spectrum

MOST = 24
"""Distinct points kept per example."""


@dataclass(frozen=True)
class Point:
    """A fixed point of one example's map."""

    example: int
    stable: bool | None
    """Whether the spectral radius is below 1 by more than its error; None where it wasn't computed
    or can't be told."""
    radius: float
    """Spectral radius of the Jacobian there; NaN where it wasn't computed."""
    residual: float
    """‖F(x) - x‖ / size."""
    condition: float
    """‖(I - J)^-1‖: how far a small change of the map moves the point; the point is degenerate
    where this passes 1 / precision. 1 where rows are too long to know."""
    visits: int
    """How many of the example's starts, its own included, iteration leads here."""
    solved: int
    """From how many starts a solver came here."""
    place: tuple[float, float]
    """In the plane of the figure."""
    point: Float[Tensor, " width"]
    """The flat state."""


@dataclass(frozen=True)
class Basins:
    """What became of other starts."""

    points: tuple[Point, ...]
    """The distinct fixed points of all examples."""
    home: Bool[Tensor, "example start"]
    """Whether plain iteration from there ended at the example's own fixed point."""
    solver_distance: Float[Tensor, " example"]
    """From the end of the loop to what Anderson's solver finds from its first state, over its size;
    NaN if it finds nothing."""
    reachability: float
    """Share of all starts, the examples' own included, that come to a fixed point within the run's
    length."""


def starts(
    loop: IterationMap, limit: Limit, perturbed: int, random: int, *, perturbation: float, seed: int
) -> Float[Tensor, "example start width"]:
    """Other starts: perturbed ends, the next example's end, near zero, and normal ones of three
    sizes.

    Only what a start may choose differs (`IterationMap.start_mask`); halting's counters begin as the
    model begins them.
    """
    end = torch.nan_to_num(limit.states[-1], 0.0, 0.0, 0.0)
    begin = torch.nan_to_num(limit.states[0], 0.0, 0.0, 0.0)
    end = torch.where(limit.diverges[:, None].to(end.device), begin, end)
    free = loop.start_mask().to(end.device)
    count = int(free.sum())
    generator = torch.Generator().manual_seed(seed)

    def noise(scale: Tensor) -> Tensor:
        drawn = torch.randn(len(end), count, generator=generator, dtype=torch.float64).to(end)
        return scale[:, None] * drawn / count**0.5

    norm = torch.maximum(end[:, free].norm(dim=1), begin[:, free].norm(dim=1))
    norm = torch.where(norm > 0, norm, torch.full_like(norm, count**0.5))
    made = [end[:, free] + noise(perturbation * norm) for _ in range(perturbed)]
    made += [end.roll(1, 0)[:, free]] if len(end) > 1 else []
    made += [noise(1e-2 * norm)]  # zero itself may be a fixed point that nothing else comes to
    made += [noise(norm * (1.0, 0.5, 2.0)[i % 3]) for i in range(random)]
    result = begin[:, None].repeat(1, len(made), 1)
    result[:, :, free] = torch.stack(made, 1)
    return result


def explore(
    loop: IterationMap,
    limit: Limit,
    others: Tensor,
    tolerance: float,
    *,
    same: float,
    inspected: int | None = None,
) -> Basins:
    """Iterate and solve from every start, and sort what is found.

    Arguments:
        others: (example, start, n), as from `starts`.
        tolerance: the residual below which plain iteration counts as at rest.
        same: points nearer than this, relative to their size, are one.
        inspected: for how many points the spectral radius is computed; None: all where rows have
            DENSE numbers or fewer,
        else 2.
    """
    examples, many, n = others.shape
    every = loop.select_rows([row for row in range(examples) for _ in range(many)])
    size, flat = limit.size.repeat_interleave(many), others.reshape(-1, n)
    length = max(1, limit.run_end - limit.first)
    plain = solve(every, flat, "plain", tolerance, max_iterations=len(limit.states) - 1, scale=size)
    rest = torch.where(plain.converged[:, None], plain.point, torch.nan).reshape(others.shape)
    home = (plain.point.reshape(others.shape) - limit.point[:, None]).norm(dim=2) <= same * limit.size[
        :, None
    ]
    begin, end = (torch.nan_to_num(limit.states[k], 0.0, 0.0, 0.0) for k in (0, -1))
    own = solve(loop, begin, "anderson", tolerance, max_iterations=200, scale=limit.size)
    solved = [own, solve(loop, end, "damped", tolerance, max_iterations=100, scale=limit.size)]
    solved += [solve(every, flat, "anderson", tolerance, max_iterations=100, scale=size)]
    solved += [solve(every, flat, "newton", tolerance, max_iterations=50, scale=size)] if n <= DENSE else []
    far = FAR * torch.maximum(others.norm(dim=2).amax(1), limit.size)[:, None, None]
    result = [torch.where(s.converged[:, None], s.point, torch.nan).reshape(examples, -1, n) for s in solved]
    result = torch.cat(result, 1)
    result = torch.where(result.norm(dim=2, keepdim=True) <= far, result, torch.nan)
    left = (10_000 if n <= DENSE else 2) if inspected is None else inspected
    points: list[Point] = []
    for row in range(examples):
        arrived = float(limit.distance[row]) <= same
        own_points = _sorted(loop, limit, row, rest[row], result=result[row], arrived=arrived, same=same)
        for point, x in own_points:
            radius, stable = _radius(loop.select_rows([row]), x) if left > 0 else (float("nan"), None)
            left -= 1
            points.append(replace(point, radius=radius, stable=stable))
    within = (plain.converged & (plain.iterations.to(plain.converged.device) <= length)).sum()
    there = (limit.states[min(length, len(limit.states) - 1)] - limit.point).norm(dim=1) <= same * limit.size
    gap = (own.point - limit.states[-1]).norm(dim=1) / limit.size
    gap = torch.where(
        own.converged & ~limit.diverges.to(gap.device) & (own.point.norm(dim=1) <= far[:, 0, 0]),
        gap,
        torch.nan,
    )
    return Basins(
        tuple(points), home.cpu(), gap.float().cpu(), float(within + there.sum()) / (examples * (many + 1))
    )


def _sorted(
    loop: IterationMap, limit: Limit, row: int, rest: Tensor, *, result: Tensor, arrived: bool, same: float
) -> list[tuple[Point, Tensor]]:
    """One example's distinct points, the one at the end of its own loop first."""
    size = limit.size[row : row + 1]
    every = torch.cat([limit.point[row : row + 1], rest, result])
    labels = cluster(every, same * float(size))
    kinds = min(int(labels.max()) + 1, MOST)
    if kinds == 0:
        return []
    first = [int((labels == label).nonzero()[0, 0]) for label in range(kinds)]
    exact, residual, condition = refine_fixed_points(
        loop.select_rows([row] * kinds), every[first], size.expand(kinds), same
    )
    points = []
    for label, x in enumerate(exact):
        if not x.isfinite().all():
            continue
        members = (labels == label).nonzero()[:, 0]
        visits = int(((members > 0) & (members <= len(rest))).sum()) + int(arrived and 0 in members)
        solved = int((members > len(rest)).sum())
        point = Point(
            row,
            None,
            float("nan"),
            float(residual[label]),
            float(condition[label]),
            visits,
            solved,
            (0.0, 0.0),
            x.cpu(),
        )
        points.append((point, x[None]))
    return points


def _radius(loop: IterationMap, x: Tensor) -> tuple[float, bool | None]:
    """The spectral radius at a point, and whether it says that the point is stable."""
    result = spectrum(loop, x, 1, errors=True)
    radius, error = float(result.radius[0]), float(result.error.nan_to_num(0.0)[0, 0])
    return radius, None if radius != radius or abs(radius - 1) <= max(error, 1e-6) else radius < 1
