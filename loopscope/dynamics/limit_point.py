"""The limit of a run's loop: its states continued beyond the run, and the fixed point that they
converge to, if they do."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..maths.contraction_rate import Rate, contraction, no_rate
from ..maths.precision import can_tell_end, resolution, rest_level, rounding
from ..maths.slowest_mode import mode
from ..runs.run import Run
from .flat_trajectory import first_and_last, flat_trajectory
from .iteration_map import IterationMap
from .newton_point import condition_and_step, nearest_fixed_point

ORIGIN = 0.1
"""A state smaller than this fraction of the first one is measured against that fraction: compared
with a limit at the origin itself no distance would be small."""
GROWTH = 1.1
"""A state diverges when its distance from the start, and its step, are at last this many times the
largest of the trajectory's second third, and those this many times the largest of its first."""
NEWTON_STEP = 1e-3
"""The next step of Newton's method at a fixed point, relative to its size, must be shorter than
this."""
FAR = 10.0
"""A solver's point is discarded if its norm is this many times the largest norm of the trajectory
(Golub & Sussillo 2018)."""
NEUTRAL = 1e-9
"""A distance that shrinks by less than this fraction per iteration counts as constant, as that of a
rotation is."""
NOISE_MARGIN = 100.0
"""Rates are fitted where the distance is at least this many times the error from rounding and from
the limit itself."""


@dataclass(frozen=True, eq=False)
class Limit:
    """Some examples' states, continued, and the fixed point nearest to where they end."""

    states: Float[Tensor, "state row width"]
    """Flat states, one after the other."""
    first: int
    """The k of the first of `states`."""
    run_end: int
    """The k of the run's last state."""
    overflow: Int[Tensor, " row"]
    """The k of the first state that holds NaN or infinity; -1 where all are finite."""
    diverges: Bool[Tensor, " row"]
    """Whether the row overflows, or its norm and its steps keep growing."""
    size: Float[Tensor, " row"]
    """What distances are measured against: the norm at the end, or ORIGIN times that of the first
    two states where that is larger."""
    scale: Float[Tensor, " row"]
    """What motion is measured against: `size`, but no more than the range that the row covers,
    which a constant added to all states doesn't change. `size` where it never moves."""
    resolved: Bool[Tensor, " row"]
    """Whether the precision of the run's first state, and of the computation, allow to tell where
    the row ends."""
    started: Bool[Tensor, " row"]
    """Whether its first step is more than rounding, so that what grows is no error."""
    point: Float[Tensor, "row width"]
    """The fixed point that Newton's method finds from the last state; NaN where it finds none."""
    residual: Float[Tensor, " row"]
    """‖F(x) - x‖ / size at `point`; NaN where there is none."""
    distance: Float[Tensor, " row"]
    """‖last state - point‖ / scale; NaN where there is no point."""
    condition: Float[Tensor, " row"]
    """‖(I - J)^-1‖ at `point`: how far rounding in F can move it. 1 where the rows are too long to
    compute it."""
    precision: str
    """The dtype of the computation, such as "float64"."""
    how: str
    """How the states were computed, as a sentence."""

    def distances(self, row: int, part: Tensor | None = None) -> Float[Tensor, " state"]:
        """‖x_k - point‖ of a row, or of a part of its numbers (a mask or slice)."""
        where = slice(None) if part is None else part
        return (self.states[:, row][:, where] - self.point[row][where]).norm(dim=1)

    def rate(self, row: int, part: Tensor | None = None) -> Rate:
        """The factor per iteration by which a row, or a part of it, nears its point
        (`loopscope.maths.contraction`)."""
        if not bool(self.point[row].isfinite().all()) or bool(self.diverges[row]):
            return no_rate(
                "the states don't end at a fixed point" if not self.diverges[row] else "the states diverge"
            )
        where = slice(None) if part is None else part
        eps = torch.finfo(self.states.dtype).eps
        gap = self.states[:, row][:, where] - self.point[row][where]
        # the limit's error is rounding times the condition of x = F(x); rounding moves a row as a
        # whole
        noise = max(eps * float(self.point[row][where].norm()), float(self.residual[row] * self.size[row]))
        noise = max(noise, eps * float(self.size[row] * self.condition[row]) / 10, 1e-300)
        steady = contraction(
            gap.norm(dim=1).tolist(), NOISE_MARGIN * noise, range(self.first, self.first + len(gap))
        )
        modal = mode(gap, noise, self.first)
        agree = (
            steady.points == 0
            or abs(modal.value - steady.value) <= 0.05 * (1 - min(steady.value, 0.9)) + 3 * steady.error
        )
        rate = modal if modal.points and agree else _with_wider_error(steady, gap, self.first)
        return no_rate("the distance to the fixed point doesn't shrink") if rate.value > 1 - NEUTRAL else rate


def _with_wider_error(rate: Rate, gap: Tensor, first: int) -> Rate:
    """The rate, with an error at least as large as its change from the whole stretch to its second
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


def continue_to_limit(
    run: Run, rows: Sequence[int] | None, extra: int, double: bool = True
) -> tuple[IterationMap, Limit]:
    """The map of some examples, and where it leads in `extra` iterations beyond the run. The run
    remembers both, so they are computed once for all analyses that ask the same; nothing may be
    written into them.

    In double precision and from the run's first state, if that reproduces the run's own states;
    else (a chaotic loop, a map that can't be put in double precision) in the run's own precision.
    An edited run is continued from its last state.

    Arguments:
        rows: examples, by number; None means all.
        extra: iterations beyond the run.
        double: whether to try double precision.
    """
    _ = run.model  # refuses weights that have changed
    chosen = None if rows is None else tuple(rows)
    return run.memory.once(("limit", chosen, extra, double), lambda: _limit(run, chosen, extra, double))


def _limit(run: Run, rows: Sequence[int] | None, extra: int, double: bool) -> tuple[IterationMap, Limit]:
    first, last = first_and_last(run)
    recorded = run.states[first].dtype
    loop, states = flat_trajectory(run, rows, last + extra, double)
    finite = states.isfinite().all(2)
    overflow = torch.where(finite.all(0), -1, first + (~finite).int().argmax(0)).cpu()
    norm = states.norm(dim=2)
    steps = (states[1:] - states[:-1]).norm(dim=2)
    away = (states - states[0]).norm(dim=2)
    diverges = (overflow >= 0) | is_growing(away, steps).cpu()
    size = _sizes(norm, diverges)
    scale, resolved = _scale(states, size, diverges, resolution(recorded))
    point, residual, condition = _fixed_points(loop, states[-1], norm, size, scale=scale, diverges=diverges)
    edited = " The run's edits were not applied again." if run.origin.get("edits") else ""
    edited += loop.note
    precision = str(states.dtype).removeprefix("torch.")
    return loop, Limit(
        states=states,
        first=first,
        run_end=last,
        overflow=overflow,
        diverges=diverges,
        size=size,
        scale=scale,
        resolved=resolved.cpu(),
        started=~(steps[0] <= rounding(norm[0], resolution(recorded))).cpu(),
        point=point,
        residual=residual,
        distance=(states[-1] - point).norm(dim=1) / scale,
        condition=condition,
        precision=precision,
        how=f"Computed in {precision} from state {first} to state {last + extra}, {extra} iterations beyond "
        f"the run.{edited}",
    )


def _sizes(norm: Tensor, diverges: Tensor) -> Float[Tensor, " row"]:
    """What distances are measured against; see `Limit.size`."""
    begin = torch.maximum(norm[0], norm[min(1, len(norm) - 1)])
    size = torch.maximum(norm[-1], ORIGIN * begin)
    # a diverging row has no size at its end
    size = torch.where(diverges.to(size.device), begin.nan_to_num(1.0, 1.0), size)
    return torch.where(size > 0, size, torch.ones_like(size))


def _scale(states: Tensor, size: Tensor, diverges: Tensor, recorded: float) -> tuple[Tensor, Tensor]:
    """(scale, resolved) of each row; see `Limit`.

    Arguments:
        recorded: machine epsilon of the run's states.
    """
    finite = torch.nan_to_num(states, 0.0, 0.0, 0.0)
    first, last, eps = finite[0], finite[-1], resolution(states.dtype)
    span = (finite - last).norm(dim=2).amax(0)
    scale = torch.where(span > rest_level(size, span, eps), torch.minimum(size, span), size)
    resolved = can_tell_end(first, last, span, recorded=recorded, computed=eps)
    return torch.where(diverges.to(scale.device), size, scale), resolved


def _fixed_points(
    loop: IterationMap, last: Tensor, norm: Tensor, size: Tensor, *, scale: Tensor, diverges: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(point, residual, condition) of the fixed point near each row's last state; NaN where there
    is none."""
    point = torch.full_like(last, torch.nan)
    residual = torch.full_like(size, torch.nan)
    ends = (~diverges).nonzero()[:, 0].tolist()
    if ends:  # a row that diverges ends at no point
        point[ends], residual[ends] = nearest_fixed_point(
            loop.select_rows(ends), last[ends], size[ends], scale[ends]
        )
    condition, step = condition_and_step(loop, point)
    reach = FAR * torch.nan_to_num(norm, 0.0, 0.0, 0.0).amax(0)
    valid = (step <= NEWTON_STEP * scale) & (point.norm(dim=1) <= torch.maximum(reach, size))
    return torch.where(valid[:, None], point, torch.nan), torch.where(valid, residual, torch.nan), condition


def is_growing(
    away: Float[Tensor, "state row"], steps: Float[Tensor, "iteration row"]
) -> Bool[Tensor, " row"]:
    """Whether states keep growing, by their distance from the first one and the sizes of their
    steps; see GROWTH. A constant added to all states doesn't change it.

    Arguments:
        away: distances from the first state.
        steps: the norms of their differences.
    """
    third = len(steps) // 3
    if third < 1:
        return torch.zeros_like(away[0], dtype=torch.bool)
    grows = steps[-1] > 0
    for values in (away[1:], steps):
        first, middle = values[-3 * third : -2 * third].amax(0), values[-2 * third : -third].amax(0)
        # of the last state alone, as chaos may well be largest in its last third
        grows = grows & (middle >= GROWTH * first) & (values[-1] >= GROWTH * middle)
    return grows
