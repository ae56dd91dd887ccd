"""Basins of attraction: where starts other than a run's own lead, by iteration and by solvers, and
the fixed points that are found."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.common.rng import mixed
from loopscope.dynamics.followed_starts import FollowedStarts, quarter_before
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.limit_point import FAR, Limit
from loopscope.dynamics.newton_point import refine_fixed_points
from loopscope.dynamics.other_starts import other_starts, settled_ends
from loopscope.dynamics.outcome import MARGIN
from loopscope.dynamics.point_spectrum import spectrum_at
from loopscope.maths.fixed_point import DENSE, Method, solve
from loopscope.maths.point_clusters import cluster
from loopscope.maths.precision import FLOOR, resolution, rounding

from .iterated_starts import LONG, IteratedStarts, iterate_starts, taken_in_turn

MOST = 24
"""Distinct points kept per example."""


@dataclass(frozen=True)
class FixedPoint:
    """A fixed point of one example's map."""

    example: int
    ends_here: bool
    """Whether the example's own loop ends at this point, approaches it, or comes nearest to it."""
    stable: bool | None
    """Whether the spectral radius is below 1 by more than MARGIN and its error; None where it
    wasn't computed or is 1 within these."""
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
    followed: FollowedStarts
    """How far iteration went from there."""
    reachability: float
    """Fraction of all starts, the examples' own included, that after as many iterations as the run
    has are as near as `merge_distance` to the fixed point to which they lead."""


def starts(
    loop: IterationMap,
    limit: Limit,
    perturbed: int,
    random: int,
    *,
    exchanged: int,
    perturbation: float,
    seed: int,
    most: int | None = None,
) -> Float[Tensor, "example start width"]:
    """Other starts: perturbed ends, and those of `other_starts`; at most so many, those that are
    farthest from the ends first.

    They differ only in the numbers that a start may set (`IterationMap.start_mask`); halting's
    counters begin as in the model.
    """
    end, begin = settled_ends(limit), torch.nan_to_num(limit.states[0], 0.0, 0.0, 0.0)
    free = loop.start_mask().to(end.device)
    count = int(free.sum())
    norm = torch.maximum(end[:, free].norm(dim=1), begin[:, free].norm(dim=1))
    norm = torch.where(norm > 0, norm, torch.full_like(norm, count**0.5))
    generator = torch.Generator().manual_seed(mixed(seed, 1))
    drawn = torch.randn(len(end), perturbed, count, generator=generator, dtype=torch.float64).to(end)
    made = [end[:, None, free] + perturbation * norm[:, None, None] * drawn / count**0.5]
    made += other_starts(loop, limit, exchanged=exchanged, random=random, seed=seed).values()
    values = torch.cat(made, 1)[:, taken_in_turn([part.shape[1] for part in made], most)]
    result = begin[:, None].repeat(1, values.shape[1], 1)
    result[:, :, free] = values
    return torch.stack([loop.cleaned(start) for start in result.unbind(1)], 1)


# It is long because four searches, and what is kept of each, stand one after the other.
def explore(
    loop: IterationMap,
    limit: Limit,
    others: Float[Tensor, "example start width"],
    tolerance: float,
    end_radius: Float[Tensor, " example"],
    *,
    merge_distance: float,
    spectra: int | None = None,
) -> Basins:
    """Iterate and solve from every start, and collect the distinct fixed points.

    Arguments:
        others: as from `starts`.
        tolerance: the residual below which plain iteration has converged.
        end_radius: the spectral radius at the point where each example ends; NaN where it ends at
            none.
        merge_distance: points nearer than this, relative to their size, are one.
        spectra: for how many points besides those at which the examples end the spectral radius is
            computed; None: all where states have DENSE numbers or fewer, else none.
    """
    examples, many, n = others.shape
    every = loop.select_rows([row for row in range(examples) for _ in range(many)])
    size, flat = limit.size.repeat_interleave(many), others.reshape(-1, n)
    length = max(1, limit.run_end - limit.first)
    near = merge_lengths(limit, merge_distance)
    tolerance = scaled_tolerance(limit, tolerance)
    attracts = (end_radius < 1 - MARGIN).to(limit.point.device)  # false for NaN
    goal = torch.where(attracts[:, None], limit.point, torch.nan)
    plain = iterate_starts(
        every,
        flat,
        iterations=len(limit.states) - 1,
        length=length,
        size=size,
        tolerance=tolerance,
        goal=goal.repeat_interleave(many, 0),
        near=near.repeat_interleave(many),
    )
    iterated = torch.where(plain.converged[:, None], plain.point, torch.nan).reshape(others.shape)
    ends = plain.point.reshape(others.shape)
    same_end = (ends - limit.point[:, None]).norm(dim=2) <= near[:, None]
    begin, end = (torch.nan_to_num(limit.states[k], 0.0, 0.0, 0.0) for k in (0, -1))
    most = (200, 100) if n <= LONG else (100, 50)
    anderson = solve(loop, begin, "anderson", tolerance, max_iterations=most[0], scale=limit.size)
    searches = [torch.where(anderson.converged[:, None], anderson.point, torch.nan)]
    # of long rows whose end has a point the search from there would find the same
    rows = [row for row in range(examples) if n <= LONG or not bool(limit.point[row].isfinite().all())]
    searches += _searches(loop, end, rows, tolerance, limit.size, {"damped": most[1]})
    # of long rows from where iteration came to rest no solver is sent: it would find the same point
    left = torch.arange(len(flat)) if n <= DENSE else (~plain.converged).nonzero()[:, 0].cpu()
    methods: dict[Method, int] = {"anderson": most[1] if n > LONG else 100}
    methods |= {"newton": 50} if n <= DENSE else {}
    searches += _searches(every, flat, left.tolist(), tolerance, size, methods)
    far = FAR * torch.maximum(others.norm(dim=2).amax(1), limit.size)
    solved = torch.cat([x.reshape(examples, -1, n) for x in searches], 1)
    solved = torch.where(solved.norm(dim=2, keepdim=True) <= far[:, None, None], solved, torch.nan)
    remaining = (10_000 if n <= DENSE else 0) if spectra is None else spectra
    points: list[FixedPoint] = []
    for point in _distinct(loop, limit, iterated, solved=solved, near=near):
        row, radius, stable = point.example, float("nan"), None
        if point.ends_here:
            radius = float(end_radius[row])
        if radius == radius:
            stable = None if abs(radius - 1) <= MARGIN else radius < 1
        elif remaining > 0:
            radius, stable = _radius(loop.select_rows([row]), point.state[None].to(limit.point))
            remaining -= 1
        points.append(replace(point, radius=radius, stable=stable))
    after = (plain.early - plain.point).norm(dim=1)
    within = (plain.converged & (after <= near.repeat_interleave(many))).sum()
    last = limit.states[min(length, len(limit.states) - 1)]
    reached = (last - limit.point).norm(dim=1) <= near
    gap = (anderson.point - limit.states[-1]).norm(dim=1) / limit.scale
    valid = anderson.converged & ~limit.diverges.to(gap.device) & (anderson.point.norm(dim=1) <= far)
    return Basins(
        tuple(points),
        same_end.cpu(),
        torch.where(valid, gap, torch.nan).float().cpu(),
        _followed(others, plain, len(limit.states) - 1),
        float(within + reached.sum()) / (examples * (many + 1)),
    )


def _followed(
    others: Float[Tensor, "example start width"], plain: IteratedStarts, iterations: int
) -> FollowedStarts:
    shape, used = others.shape, plain.used.reshape(others.shape[:2])
    states, earlier = plain.last.reshape(shape), plain.earlier.reshape(shape)
    return FollowedStarts(others, used, states, earlier, quarter_before(iterations))


def _searches(
    every: IterationMap,
    flat: Tensor,
    rows: list[int],
    tolerance: float,
    size: Tensor,
    methods: dict[Method, int],
) -> list[Float[Tensor, "row n"]]:
    """What solvers find from some of the rows; NaN for the other rows.

    Arguments:
        methods: the solvers, and the most iterations of each.
    """
    points = []
    for method, most in methods.items() if rows else ():
        search = solve(
            every.select_rows(rows), flat[rows], method, tolerance, max_iterations=most, scale=size[rows]
        )
        whole = torch.full_like(flat, torch.nan)
        whole[rows] = torch.where(search.converged[:, None], search.point, torch.nan)
        points.append(whole)
    return points


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
    iterated: Float[Tensor, "example start width"],
    *,
    solved: Float[Tensor, "example candidate width"],
    near: Float[Tensor, " example"],
) -> list[FixedPoint]:
    """The distinct points of each example, the one at the end of its own loop first.

    Arguments:
        iterated: where iteration came to rest; NaN where it didn't.
        solved: what solvers found.
        near: points nearer than this are one.
    """
    rows, candidates, groups = [], [], []
    for row in range(len(iterated)):
        every = torch.cat([limit.point[row : row + 1], iterated[row], solved[row]])
        labels = cluster(every, float(near[row]))
        for label in range(min(int(labels.max()) + 1, MOST)):
            members = (labels == label).nonzero()[:, 0]
            rows.append(row)
            candidates.append(every[members[0]])
            groups.append(members)
    if not rows:
        return []
    exact, residual, condition = refine_fixed_points(
        loop.select_rows(rows), torch.stack(candidates), limit.scale[rows], near[rows]
    )
    arrives, points = limit.distance * limit.scale <= near, []
    for i, (row, members) in enumerate(zip(rows, groups, strict=True)):
        if not exact[i].isfinite().all():
            continue
        is_start = (members > 0) & (members <= iterated.shape[1])
        own = bool((members == 0).any())
        points.append(
            FixedPoint(
                example=row,
                ends_here=own,
                stable=None,
                radius=float("nan"),
                residual=float(residual[i]),
                condition=float(condition[i]),
                visits=int(is_start.sum()) + int(own and bool(arrives[row])),
                solver_visits=int((members > iterated.shape[1]).sum()),
                coordinates=(0.0, 0.0),
                state=exact[i].cpu(),
            )
        )
    return points


def _radius(loop: IterationMap, x: Tensor) -> tuple[float, bool | None]:
    """The spectral radius at a point, and whether the point is stable; None within MARGIN of 1, or
    within its error."""
    result = spectrum_at(loop, x)
    radius, error = float(result.radius[0]), float(result.error[0, 0])
    return radius, None if radius != radius or not abs(radius - 1) > max(error, MARGIN) else radius < 1
