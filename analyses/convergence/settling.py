"""Which positions have settled, and of which the precision of the states can't tell."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.maths.precision import motion_scale, rounding, state_scale

STEADY_CREEP = 0.9
"""Steps that keep this part of their size over the last quarter of the extra iterations creep: they
add up, however small each is."""


class Settling(NamedTuple):
    """Rest and motion of each example and position."""

    settled: Bool[Tensor, "iteration batch position"]
    """Whether all steps from that iteration on are small beside norm and range, or rounding."""
    undecided: Bool[Tensor, "batch position"]
    """Whether it rests as far as the numbers can tell, but they can't tell rest from slow
    motion."""
    relative_to_range: Float[Tensor, "iteration batch position"]
    """Step size over the range."""
    started: Bool[Tensor, "batch position"]
    """Whether the first step is more than rounding."""


def settling(
    step: Float[Tensor, "iteration batch position"],
    norm: Float[Tensor, "state batch position"],
    range: Float[Tensor, "batch position"],
    last: Float[Tensor, "batch position width"],
    *,
    travel: Float[Tensor, "batch position"],
    quarter: int,
    tolerance: float,
    eps: float,
) -> Settling:
    """Judge every step against norm and range, and against rounding.

    Arguments:
        range: the largest distance to the limit.
        last: the limit.
        travel: the distance from the first state of the last quarter to the limit.
        quarter: the iterations of that quarter.
        tolerance: of a step over norm and range (`loopscope.maths.precision.motion_scale`).
        eps: machine epsilon of the states as they were recorded.
    """
    level = rounding(norm, eps)
    small = tolerance * motion_scale(norm[1:], range)
    still = (step < small) | (step <= level[1:])
    late = step[-quarter - 1 :]
    half = max(1, len(late) // 2)
    creeps = (travel > torch.maximum(level[-2], small[-1])) & (
        late[-half:].mean(0) >= STEADY_CREEP * late[:half].mean(0)
    )
    still &= ~creeps
    settled = still.flip(0).cummin(0).values.flip(0)  # from t on, to the end
    scale = state_scale(last.flatten(0, 1), range.flatten(), eps).reshape(range.shape)
    can_tell = level[-2] <= tolerance * motion_scale(norm[-2], scale)
    relative = torch.where(step == 0, 0, step / range)
    started = step[0] > level[0]
    rests = settled[-quarter - 1]
    return Settling(settled & can_tell, rests & ~can_tell, relative, started)
