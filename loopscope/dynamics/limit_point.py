"""Where a run's loop goes: its states continued beyond the run, and the fixed point that they end
at, if they do."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..maths.contraction_rate import Rate, contraction, none
from ..maths.fixed_point import DENSE, solve
from ..maths.jacobian import Linearised
from ..maths.slowest_mode import mode
from ..runs.run import Run
from .iteration_map import IterationMap

ORIGIN = 0.1
"""A state smaller than this fraction of the first one is measured against that: nothing is small
beside a limit at the origin."""
GROWTH = 1.1
"""A state diverges when the largest norm of the trajectory's last third, and the largest step, are
this many times those of the third before."""
SURE = 1e-3
"""The next step of Newton's method at a fixed point, relative to its size, must be shorter than
this."""
FAR = 10.0
"""A solver's point this many times farther out than where it started is an escape, not a find
(Golub & Sussillo 2018)."""
STILL = 1e-9
"""A distance that shrinks by less than this fraction per iteration stays the same, as a rotation's
does."""
CLEAR = 100.0
"""Rates are read where the distance is this many times what rounding and the limit's own error
leave of it."""


@dataclass(frozen=True)
class Limit:
    """Some examples' states, continued, and the fixed point nearest to where they end."""

    states: Float[Tensor, "state row width"]
    """Flat states, one after the other."""
    first: int
    """The k of the first."""
    shown: int
    """The k of the run's last state."""
    ended: Int[Tensor, " row"]
    """The k of the first state that holds NaN or infinity; -1 where all are finite."""
    diverges: Bool[Tensor, " row"]
    """Overflows, or grows faster and faster."""
    size: Float[Tensor, " row"]
    """What distances are measured against: the norm at the end, or ORIGIN times the first two
    states' where that is larger."""
    point: Float[Tensor, "row width"]
    """The fixed point that Newton's method finds from the last state; NaN where it finds none."""
    residual: Float[Tensor, " row"]
    """‖F(x) - x‖ / size at `point`; NaN where there is none."""
    distance: Float[Tensor, " row"]
    """‖last state - point‖ / size; NaN where there is no point."""
    condition: Float[Tensor, " row"]
    """‖(I - J)^-1‖ at `point`: how far rounding in F can move it. 1 where the rows are too long to
    know."""
    precision: str
    """The numbers it was computed in."""
    how: str
    """A sentence on where the states come from."""

    def distances(self, row: int, part: Tensor | None = None) -> Float[Tensor, " state"]:
        """‖x_k - point‖ of a row, or of a part of its numbers (a mask or slice)."""
        gap = self.states[:, row] - self.point[row]
        return (gap if part is None else gap[:, part]).norm(dim=1)

    def rate(self, row: int, part: Tensor | None = None) -> Rate:
        """The factor per iteration by which a row, or a part of it, nears its point
        (`loopscope.maths.contraction`)."""
        if not bool(self.point[row].isfinite().all()) or bool(self.diverges[row]):
            return none(
                "the states don't end at a fixed point" if not self.diverges[row] else "the states diverge"
            )
        where = slice(None) if part is None else part
        eps = torch.finfo(self.states.dtype).eps
        gap = (self.states[:, row] - self.point[row])[:, where]
        # A limit is known to rounding times the condition of x = F(x); rounding moves a row as a
        # whole.
        noise = max(eps * float(self.point[row][where].norm()), float(self.residual[row] * self.size[row]))
        noise = max(noise, eps * float(self.size[row] * self.condition[row]) / 10, 1e-300)
        steady = contraction(
            gap.norm(dim=1).tolist(), CLEAR * noise, range(self.first, self.first + len(gap))
        )
        modal = mode(gap, noise, self.first)
        agree = (
            steady.points == 0
            or abs(modal.value - steady.value) <= 0.05 * (1 - min(steady.value, 0.9)) + 3 * steady.error
        )
        rate = modal if modal.points and agree else _widened(steady, gap, self.first)
        return none("the distance to the fixed point doesn't shrink") if rate.value > 1 - STILL else rate


def _widened(rate: Rate, gap: Tensor, first: int) -> Rate:
    """A rate whose error is no less than what it changes by from the whole stretch to its second
    half."""
    if rate.points < 4:
        return rate
    middle, last = (rate.first + rate.last) // 2 - first, rate.last - first
    ends = gap[[middle, last]].norm(dim=1)
    late = float(ends[1] / ends[0]) ** (1 / max(1, last - middle))
    off = abs(late - rate.value)
    if off <= rate.error:
        return rate
    low, high = min(rate.low, rate.value - 2 * off), max(rate.high, rate.value + 2 * off)
    sentence = f"{rate.sentence[:-1]}; its second half alone gives {late:.4g}."
    return replace(rate, error=off, low=low, high=high, sentence=sentence)


def follow(
    run: Run, rows: Sequence[int] | None, extra: int, double: bool = True
) -> tuple[IterationMap, Limit]:
    """The map of some examples, and where iterating it for `extra` iterations more than the run
    leads.

    In double precision, from the run's first state, if that follows the run's own states to its
    end; else (a chaotic loop, a map that can't be put in double precision) in the run's own; if the
    run was edited, from its last state.
    """
    loop = IterationMap(run, rows, double)
    labels = run.states.iterations
    first, last = labels[0], labels[-1]
    if run.origin.get("edits"):
        first = last
    states = _continued(loop, run, first, last + extra)
    if loop.double and first < last and not _shadows(states[last - first], loop.at(last, run)):
        own = IterationMap(run, rows, double=False)
        loop, states = own, _continued(own, run, first, last + extra)
    finite = states.isfinite().all(2)
    ended = torch.where(finite.all(0), -1, first + (~finite).int().argmax(0)).cpu()
    norm = states.norm(dim=2)
    steps = (states[1:] - states[:-1]).norm(dim=2)
    diverges = (ended >= 0) | growing(norm, steps).cpu()
    size = torch.maximum(norm[-1], ORIGIN * torch.maximum(norm[0], norm[min(1, len(norm) - 1)]))
    begin = torch.maximum(norm[0], norm[min(1, len(norm) - 1)]).nan_to_num(1.0, 1.0)
    size = torch.where(diverges.to(size.device), begin, size)  # what diverges has no size in the end
    size = torch.where(size > 0, size, torch.ones_like(size))
    end = torch.where(diverges[:, None].to(states.device), torch.zeros_like(states[-1]), states[-1])
    point, residual = _nearest(loop, end, size)
    nan = torch.full_like(residual, float("nan"))
    lost = diverges.to(residual.device)
    point = torch.where(lost[:, None], nan[:, None], point)
    residual = torch.where(lost, nan, residual)
    condition, step = _conditioned(loop, point)
    reach = FAR * torch.nan_to_num(norm, 0.0, 0.0, 0.0).amax(0)
    sure = ((step <= SURE * size) & (point.norm(dim=1) <= torch.maximum(reach, size)))[:, None]
    point, residual = torch.where(sure, point, nan[:, None]), torch.where(sure[:, 0], residual, nan)
    edited = " The run's edits were not made again." if run.origin.get("edits") else ""
    precision = str(states.dtype).removeprefix("torch.")
    how = f"Computed in {precision} from state {first} to state {last + extra}, {extra} iterations beyond the run.{edited}"
    distance = (states[-1] - point).norm(dim=1) / size
    return loop, Limit(
        states, first, last, ended, diverges, size, point, residual, distance, condition, precision, how
    )


def growing(norm: Float[Tensor, "state row"], steps: Float[Tensor, "iteration row"]) -> Bool[Tensor, " row"]:
    """Whether states grow faster and faster: by their norms and the sizes of their steps."""
    third = len(steps) // 3
    if third < 1:
        return torch.zeros_like(norm[0], dtype=torch.bool)
    grows = steps[-third:].amax(0) > 0
    for values in (norm[1:], steps):
        grows = grows & (values[-third:].amax(0) >= GROWTH * values[-2 * third : -third].amax(0))
    return grows


def refined(loop: IterationMap, x: Tensor, size: Tensor, same: float) -> tuple[Tensor, Tensor, Tensor]:
    """Candidates (row, n) as fixed points to the last digits that there are, their residuals and
    ‖(I - J)^-1‖; NaN for those that are none.

    A small residual alone is no fixed point: a slow drift has one too. Newton's method must settle,
    near the candidate, and its next step must be short.
    """
    eps = torch.finfo(x.dtype).eps
    known = x.isfinite().all(1)
    result = solve(loop, torch.nan_to_num(x), "newton", 100 * eps, most=20, scale=size)
    near = (result.point - x).norm(dim=1) <= same * size
    condition, step = _conditioned(loop, result.point)
    good = known & result.converged & near & (step <= same * size)
    nan = torch.full_like(size, float("nan"))
    residual = torch.where(good, result.residual.to(x), nan)
    return torch.where(good[:, None], result.point, nan[:, None]), residual, condition


def _conditioned(loop: IterationMap, point: Tensor) -> tuple[Tensor, Tensor]:
    """‖(I - J)^-1‖ at each point, and the length of Newton's next step; 1 and 0 where rows are too
    long to know."""
    condition, step = torch.ones_like(point[:, 0]), torch.zeros_like(point[:, 0])
    known = point.isfinite().all(1)
    if point.shape[1] > DENSE or not known.any():
        return condition, step
    at = Linearised(loop, torch.nan_to_num(point))
    A = torch.eye(at.size, dtype=torch.float64) - at.dense().double().cpu()
    A = torch.nan_to_num(A, 0.0, 0.0, 0.0)
    gap = (at.value - at.state).double().cpu()
    move = torch.linalg.lstsq(A, gap[..., None], driver="gelsd").solution[..., 0].norm(dim=1)
    least = torch.linalg.svdvals(A)[:, -1].clamp(min=1e-300)
    return torch.where(known, (1 / least).to(condition), condition), torch.where(known, move.to(step), step)


def _continued(loop: IterationMap, run: Run, first: int, last: int) -> Tensor:
    return torch.stack(list(loop.trajectory(loop.at(first, run), last - first, first)))


def _shadows(x: Tensor, y: Tensor) -> bool:
    """Whether two precisions came to the same state; where both overflowed there is nothing to tell
    them apart by."""
    both = x.isfinite().all(1) & y.isfinite().all(1)
    gap, size = (x - y)[both].norm(dim=1), y[both].norm(dim=1)
    return bool((gap <= 1e-3 * size + 1e-30).all())


def _nearest(loop: IterationMap, x: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The fixed point that Newton's method, or else Anderson's, finds from x, to the last digits
    that there are."""
    eps = torch.finfo(x.dtype).eps
    # long rows round more, and Krylov's search there would go on for digits that there aren't
    last = 4 * eps if x.shape[1] <= DENSE else 100 * eps
    result = solve(loop, x, "newton", last, most=60, scale=size)
    second = solve(loop, x, "anderson", last, most=60, scale=size)
    one, two = torch.nan_to_num(result.residual, torch.inf), torch.nan_to_num(second.residual, torch.inf)
    better = (two < one)[:, None]
    point, residual = torch.where(better, second.point, result.point), torch.minimum(one, two).to(x)
    nan = torch.full_like(residual, float("nan"))
    good = residual <= 1e3 * eps
    return torch.where(good[:, None], point, nan[:, None]), torch.where(good, residual, nan)
