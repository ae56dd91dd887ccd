"""What trajectories do at their end: rest, approach rest, slow down, keep moving, or grow.

The answer needs no period and no fit of a path: only the sizes of steps, norms and distances. So it
is coarser than the kinds of `loopscope.maths.limits`, and never excludes the true one of them.
"""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .precision import JITTER, motion_scale, rest_level, rounding, state_scale
from .step_decay import step_decay
from .trajectory_sizes import TrajectorySizes, trajectory_sizes

GROWTH, STEADY = 1.1, 0.9
"""A trajectory grows if its norm rises by the first factor from the second quarter to the last one,
window by window, while its steps keep the second part of their size."""
_EXPLODING = 2.0
"""Steps that grow by this factor lead away whatever the norm is."""
_WINDOWS = 8
"""In so many windows of the late half the steps are compared."""
_STILL = 3
"""So many steps without any motion are no accident."""
_SLOPE = 5.0
"""Steps shrink if the slope of their logarithm is negative by so many standard errors."""
LEFT = 10.0
"""What has small steps hasn't stopped while these still add up to so many tolerances of norm and
range."""


class LateMotion(Enum):
    """What a trajectory does at its end. The order is that of the codes."""

    rests = "has stopped moving"
    stops = "stops at once, from a full step to none at all, as what a model keeps from where it halts"
    approaches = "approaches a point: its steps shrink so that their sum is finite, but aren't small yet"
    slows = "slows down, but in such a way that its steps needn't ever end"
    moves = "keeps moving"
    grows = "grows: its norm, or its distance from where it began, keeps rising"
    unresolved = "moves so little that rest can't be told from slow motion"


LATE_MOTIONS = tuple(LateMotion)
_CODE = {motion: code for code, motion in enumerate(LATE_MOTIONS)}


class LateMotions(NamedTuple):
    """The late motion of trajectories."""

    code: Int[Tensor, " row"]
    """The number in `LATE_MOTIONS`."""
    settled: Bool[Tensor, "iteration row"]
    """Whether all steps from that iteration on are small beside norm and range, or rounding."""


def late_motion(values: Sequence[Float[Tensor, "row width"]], tolerance: float, eps: float) -> LateMotions:
    """The late motion of each row's trajectory.

    A row stops if after a step above the tolerance there is none at all to the end; what converges
    has ever smaller steps first. It rests if every step of the last quarter is below the tolerance,
    unless the steps add up. It approaches a point while its steps shrink in such a way that their
    sum is finite (`loopscope.maths.step_decay`), or where it has stopped in the last eighth only.
    Otherwise it grows if its norm leaves its former range, slows where the steps shrink, and moves
    where they don't, or so slowly that their sum has no limit. One that ends in NaN or infinity
    grows. It is unresolved where it rests but the precision can't tell rest from slow motion, and
    where its small steps don't shrink although they are more than rounding.

    Arguments:
        values: the states, one after the other; 3 at least.
        tolerance: of a step over norm and range (`loopscope.maths.precision.motion_scale`).
        eps: machine epsilon of the states as they were recorded.
    """
    return late_motion_of(trajectory_sizes(values), tolerance, eps)


def late_motion_of(
    sizes: TrajectorySizes, tolerance: float, eps: float, across: float | None = None
) -> LateMotions:
    """The late motion of trajectories whose states are no longer needed; see `late_motion`.

    Arguments:
        across: the spread between the last states of all rows, where these are some of them
            (`loopscope.maths.precision.spread_between`); None: these are all.
    """
    norm, step, away, left = sizes.norm, sizes.step, sizes.away, sizes.left
    overflows = sizes.bad.any(0)
    range, level = left.amax(0), rounding(norm, eps)
    tail = max(1, len(step) // 4)
    small = tolerance * motion_scale(norm[1:], range)
    late, half = step[-tail:], max(1, tail // 2)
    creeps = late[-half:].mean(0) >= STEADY * late[:half].mean(0)
    creeps &= left[-tail - 1] > torch.maximum(level[-1], small[-1])
    parts = [(_shrinks(part, level[-1]), step_decay(part)) for part in (step[len(step) // 2 :], late)]
    leads = [falls & decay.ends for falls, decay in parts]
    creeps |= leads[1] & (parts[1][1].left > LEFT * small[-1])
    still = ((step < small) | (step <= level[1:])) & ~creeps
    settled = still.flip(0).cummin(0).values.flip(0)  # from t on, to the end
    shrinks, ends = parts[0][0] | parts[1][0], leads[0] | leads[1]
    shrinks &= ~parts[0][1].endless
    lingers = ~shrinks & (late.mean(0) > rest_level(norm[-1], range, eps))
    scale = state_scale(sizes.last, range, eps, across)
    known = (level[-1] <= tolerance * motion_scale(norm[-1], scale)) & ~lingers
    started = step[0] > level[0]
    grows = _grows(step, norm, away, tail) & ~ends
    rules = [
        (overflows & started, LateMotion.grows),
        (_stops_at_once(step, norm, max(tolerance, JITTER * eps)), LateMotion.stops),
        (grows & started, LateMotion.grows),
        (settled[-tail] & known, LateMotion.rests),
        (settled[-tail] | ~started, LateMotion.unresolved),
        (ends | (settled[-half] & ~parts[0][1].endless), LateMotion.approaches),
        (shrinks, LateMotion.slows),
    ]
    code = torch.full_like(range, _CODE[LateMotion.moves], dtype=torch.long)
    for applies, motion in reversed(rules):
        code = torch.where(applies, _CODE[motion], code)
    return LateMotions(code, settled & known & ~overflows)


def _shrinks(step: Float[Tensor, "iteration row"], level: Float[Tensor, " row"]) -> Bool[Tensor, " row"]:
    """Whether steps become smaller: along a line in their logarithm, or quarter by quarter to a
    half, the largest of the last below the smallest of the first."""
    windows = _window_means(step, _WINDOWS)
    logs = windows.clamp(min=1e-300).log()
    count = len(windows)
    if count < 3:
        return windows[-1] < windows[0] - level
    x = torch.arange(count, dtype=logs.dtype, device=logs.device) - (count - 1) / 2
    slope = (x[:, None] * logs).sum(0) / x.square().sum()
    left = logs - logs.mean(0) - x[:, None] * slope
    error = (left.square().sum(0) / (count - 2) / x.square().sum()).sqrt()
    quarters = _window_means(step, 4)
    falls = (quarters.diff(dim=0) < 0).all(0) & (quarters[-1] <= 0.5 * quarters[0])
    ends = step.tensor_split(min(4, len(step)))
    falls &= ends[-1].amax(0) <= ends[0].amin(0)  # the steps of chaos vary too much for their means
    drop = windows[0] - windows[-1]  # by rounding alone a rotation may lose `level` in every step
    return ((slope < -_SLOPE * error) & (drop > len(step) * level)) | (falls & (drop > level))


def _stops_at_once(
    step: Float[Tensor, "iteration row"], norm: Float[Tensor, "state row"], least: float
) -> Bool[Tensor, " row"]:
    """Whether nothing moves after a step of at least this part of the norm; where numbers have few
    digits, what converges ends by steps of one digit."""
    after = (step > 0).flip(0).cummax(0).values.flip(0).sum(0)  # steps up to the last that moves
    relative = torch.where(step == 0, 0, step / norm[1:])
    last = relative.gather(0, (after - 1).clamp(min=0)[None])[0]
    return (after > 0) & (after <= len(step) - _STILL) & (last >= least)


def _grows(
    step: Float[Tensor, "iteration row"],
    norm: Float[Tensor, "state row"],
    away: Float[Tensor, "state row"],
    tail: int,
) -> Bool[Tensor, " row"]:
    second, pace = slice(len(step) // 4, len(step) // 2 + 1), step[-tail:].mean(0)
    before = step[second].mean(0)

    def rises(size: Tensor) -> Tensor:
        windows = _window_means(size[second.start :], _WINDOWS)
        return (size[-tail:].amin(0) >= GROWTH * size[second].amax(0)) & (windows.diff(dim=0) > 0).all(0)

    return (rises(norm) & (pace >= STEADY**2 * before)) | (rises(away) & (pace >= _EXPLODING * before))


def _window_means(x: Float[Tensor, "iteration row"], count: int) -> Float[Tensor, "window row"]:
    return torch.stack([part.mean(0) for part in x.tensor_split(min(count, len(x)))])
