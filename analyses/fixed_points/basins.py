"""Basins of attraction: where starts other than a run's own lead, by iteration and by solvers, and
the fixed points that are found."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.limit_point import FAR, Limit
from loopscope.dynamics.newton_point import refine_fixed_points
from loopscope.maths.fixed_point import DENSE, solve
from loopscope.maths.point_clusters import cluster
from loopscope.maths.precision import FLOOR, resolution, rounding
from loopscope.maths.spectrum import spectrum

MOST = 24
"""Distinct points kept per example."""


@dataclass(frozen=True)
class FixedPoint:
    """A fixed point of one example's map."""

    example: int
    stable: bool | None
    """Whether the spectral radius is below 1 by more than its error; None where it wasn't computed
    or is 1 within its error."""
    radius: float
    """Spectral radius of the Jacobian there; NaN where it wasn't computed."""
    residual: float
    """‖F(x) - x‖ / size."""
    condition: float
    """‖(I - J)^-1‖: how far a small change of the map moves the point; the point is degenerate
    where this passes 1 / precision. 1 where states are too large to compute it."""
    visits: int
    """From how many of the example's starts, its own included, plain iteration leads here."""
    solver_visits: int
    """From how many starts a solver leads here."""
    coordinates: tuple[float, ...]
    """In the plane of the figure."""
    state: Float[Tensor, " width"]
    """The flat state."""


@dataclass(frozen=True)
class Basins:
    """Where other starts lead."""

    points: tuple[FixedPoint, ...]
    """The distinct fixed points of all examples."""
    same_end: Bool[Tensor, "example start"]
    """Whether plain iteration from there ended at the fixed point where the example's loop ends."""
    solver_distance: Float[Tensor, " example"]
    """From the end of the loop to what Anderson's solver finds from its first state, over its scale
    (`Limit.scale`); NaN if it finds nothing."""
    reachability: float
    """Fraction of all starts, the examples' own included, that reach a fixed point within the run's
    length."""


def starts(
    loop: IterationMap, limit: Limit, perturbed: int, random: int, *, perturbation: float, seed: int
) -> Float[Tensor, "example start width"]:
    """Other starts: perturbed ends, the next example's end, near zero, and normal ones of three
    sizes.

    They differ only in the numbers that a start may set (`IterationMap.free`); halting's counters
    begin as in the model.
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
    return torch.stack([loop.cleaned(start) for start in result.unbind(1)], 1)


# It is long because four searches, and what is kept of each, stand one after the other.
def explore(
    loop: IterationMap,
    limit: Limit,
    others: Float[Tensor, "example start width"],
    tolerance: float,
    *,
    merge_distance: float,
    spectra: int | None = None,
) -> Basins:
    """Iterate and solve from every start, and collect the distinct fixed points.

    Arguments:
        others: as from `starts`.
        tolerance: the residual below which plain iteration has converged.
        merge_distance: points nearer than this, relative to their size, are one.
        spectra: for how many points the spectral radius is computed; None: all where states have
            DENSE numbers or fewer, else 2.
    """
    examples, many, n = others.shape
    every = loop.select_rows([row for row in range(examples) for _ in range(many)])
    size, flat = limit.size.repeat_interleave(many), others.reshape(-1, n)
    length = max(1, limit.run_end - limit.first)
    near = merge_lengths(limit, merge_distance)
    tolerance = scaled_tolerance(limit, tolerance)
    plain = solve(every, flat, "plain", tolerance, max_iterations=len(limit.states) - 1, scale=size)
    iterated = torch.where(plain.converged[:, None], plain.point, torch.nan).reshape(others.shape)
    ends = plain.point.reshape(others.shape)
    same_end = (ends - limit.point[:, None]).norm(dim=2) <= near[:, None]
    begin, end = (torch.nan_to_num(limit.states[k], 0.0, 0.0, 0.0) for k in (0, -1))
    anderson = solve(loop, begin, "anderson", tolerance, max_iterations=200, scale=limit.size)
    searches = [anderson, solve(loop, end, "damped", tolerance, max_iterations=100, scale=limit.size)]
    searches += [solve(every, flat, "anderson", tolerance, max_iterations=100, scale=size)]
    searches += [solve(every, flat, "newton", tolerance, max_iterations=50, scale=size)] if n <= DENSE else []
    far = FAR * torch.maximum(others.norm(dim=2).amax(1), limit.size)
    solved = [
        torch.where(s.converged[:, None], s.point, torch.nan).reshape(examples, -1, n) for s in searches
    ]
    solved = torch.cat(solved, 1)
    solved = torch.where(solved.norm(dim=2, keepdim=True) <= far[:, None, None], solved, torch.nan)
    remaining = (10_000 if n <= DENSE else 2) if spectra is None else spectra
    points: list[FixedPoint] = []
    for row in range(examples):
        ends_here = bool(limit.distance[row] * limit.scale[row] <= near[row])
        for point, x in _distinct(
            loop,
            limit,
            row,
            iterated[row],
            solved=solved[row],
            ends_here=ends_here,
            same=float(near[row] / limit.scale[row]),
        ):
            radius, stable = _radius(loop.select_rows([row]), x) if remaining > 0 else (float("nan"), None)
            remaining -= 1
            points.append(replace(point, radius=radius, stable=stable))
    within = (plain.converged & (plain.iterations.to(plain.converged.device) <= length)).sum()
    last = limit.states[min(length, len(limit.states) - 1)]
    reached = (last - limit.point).norm(dim=1) <= near
    gap = (anderson.point - limit.states[-1]).norm(dim=1) / limit.scale
    valid = anderson.converged & ~limit.diverges.to(gap.device) & (anderson.point.norm(dim=1) <= far)
    return Basins(
        tuple(points),
        same_end.cpu(),
        torch.where(valid, gap, torch.nan).float().cpu(),
        float(within + reached.sum()) / (examples * (many + 1)),
    )


def scaled_tolerance(limit: Limit, tolerance: float) -> float:
    """A tolerance of residuals over the norm, so small that they are within `tolerance` of the
    scale too, but no smaller than the precision of the numbers."""
    norm = torch.maximum(limit.size, _last_norm(limit))
    part = torch.where(limit.diverges.to(norm.device), 1.0, (limit.scale / norm).clamp(max=1))
    return max(tolerance * float(part.amin()), FLOOR * resolution(limit.states.dtype))


def merge_lengths(limit: Limit, merge_distance: float) -> Float[Tensor, " example"]:
    """Points nearer than this are one: a part of the scale, but no less than rounding."""
    level = rounding(_last_norm(limit), resolution(limit.states.dtype))
    return torch.maximum(merge_distance * limit.scale, level)


def _last_norm(limit: Limit) -> Float[Tensor, " example"]:
    return torch.nan_to_num(limit.states[-1], 0.0, 0.0, 0.0).norm(dim=1)


def _distinct(
    loop: IterationMap,
    limit: Limit,
    row: int,
    iterated: Float[Tensor, "start width"],
    *,
    solved: Float[Tensor, "candidate width"],
    ends_here: bool,
    same: float,
) -> list[tuple[FixedPoint, Float[Tensor, "1 width"]]]:
    """One example's distinct points, the one at the end of its own loop first.

    Arguments:
        ends_here: whether the example's own loop ends at its point.
        same: points nearer than this, relative to their size, are one.
    """
    size = limit.scale[row : row + 1]
    every = torch.cat([limit.point[row : row + 1], iterated, solved])
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
        is_start = (members > 0) & (members <= len(iterated))
        point = FixedPoint(
            example=row,
            stable=None,
            radius=float("nan"),
            residual=float(residual[label]),
            condition=float(condition[label]),
            visits=int(is_start.sum()) + int(ends_here and 0 in members),
            solver_visits=int((members > len(iterated)).sum()),
            coordinates=(0.0, 0.0),
            state=x.cpu(),
        )
        points.append((point, x[None]))
    return points


def _radius(loop: IterationMap, x: Tensor) -> tuple[float, bool | None]:
    """The spectral radius at a point, and whether the point is stable; None within the radius'
    error of 1."""
    result = spectrum(loop, x, 1, errors=True)
    radius, error = float(result.radius[0]), float(result.error.nan_to_num(0.0)[0, 0])
    return radius, None if radius != radius or abs(radius - 1) <= max(error, 1e-6) else radius < 1
