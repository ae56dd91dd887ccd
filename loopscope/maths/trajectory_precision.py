"""Which kinds of motion the precision of a trajectory's numbers allows to be told from each other.

In numbers of few digits a loop ends otherwise than its map would: slow motion stops, since its
steps are rounded away; chaos and quasi-periodic motion soon repeat themselves, since there are few
states to visit; a rotation spirals by what is rounded in each turn. The recorded states then show a
rest, a cycle or a growth that isn't the map's. See `loopscope.maths.precision`.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..core.finite import all_finite
from .precision import CELLS, FLOOR, can_tell_rest, rounding

CHANCE = 40.0
"""In n states chaos repeats itself after about sqrt(n) iterations; a cycle this many times shorter
is no chance."""
_STEADY = 0.9
"""A drift that rounding doesn't stop keeps this part of its pace from quarter to quarter."""


class TrajectoryPrecision(NamedTuple):
    """What the precision of its numbers allows to be said of each trajectory."""

    rest: Bool[Tensor, " row"]
    """Whether rest is told from slow motion."""
    fine: Bool[Tensor, " row"]
    """Whether the motion covers so many different numbers that it doesn't repeat itself by
    chance."""
    cycle: Bool[Tensor, " row"]
    """Whether a return after `Returns.whole` iterations is no chance: the states are many, or the
    trajectory approached its cycle ever closer from the beginning."""
    steady: Bool[Tensor, " row"]
    """Whether a drift covers many different numbers without slowing down."""
    growth: Bool[Tensor, " row"]
    """Whether the first step was more than rounding, so that what grows isn't an error, and the
    growth per iteration is more than rounding gives."""


def trajectory_precision(
    x: Float[Tensor, "row iteration width"],
    whole: Float[Tensor, " row"],
    decay: Float[Tensor, " row"],
    eps: float,
    others: Float[Tensor, " row"],
) -> TrajectoryPrecision:
    """What the precision of recorded trajectories allows to be said of them.

    Arguments:
        whole: the whole period that each row may have; 0 for none.
        decay: logarithm of the motion's size in the last quarter over that in the one before.
        eps: machine epsilon of the numbers as they were recorded.
        others: the scale of a row that never moved (`loopscope.maths.precision.state_scale`).
    """
    overflows = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    if not all_finite(x):
        overflows = ~x.isfinite().all(2).all(1)
        x = torch.nan_to_num(x, 0.0, 0.0, 0.0)
    n = x.shape[1]
    h = n // 4
    late = x[:, n - 2 * h :]
    centre = late.mean(1)
    norm = late.square().sum(2).mean(1).sqrt()
    spread = (late - centre[:, None]).square().sum(2).mean(1).sqrt()
    span = (x - centre[:, None]).norm(dim=2).amax(1)
    level = rounding(norm, eps)
    scale = torch.where(span > level, span, others)
    cells = spread / (eps * norm).clamp(min=1e-300)
    fine = cells >= CELLS
    many = cells.sqrt()
    by_chance = (whole > many / CHANCE) & (n > 0.2 * many)
    first = (x[:, 1] - x[:, 0]).norm(dim=1)
    pace = (x[:, -1] - x[:, -1 - h]).norm(dim=1)
    return TrajectoryPrecision(
        rest=can_tell_rest(norm, scale, eps),
        fine=fine,
        cycle=(fine & ~by_chance) | _approached(x, whole, level),
        steady=fine | ((decay >= math.log(_STEADY)) & (pace >= 4 * level)),
        growth=(first > rounding(x[:, 0].norm(dim=1), eps)) & (overflows | fine | (decay > h * FLOOR * eps)),
    )


def _approached(x: Tensor, whole: Tensor, level: Tensor) -> Bool[Tensor, " row"]:
    """Whether ‖x_(k+p) - x_k‖ never rises by more than rounding, so that the states come ever
    closer to a cycle, or are on it from the beginning. Chaos that repeats itself has wandered
    before."""
    result = torch.zeros_like(whole, dtype=torch.bool)
    for value in whole.unique().tolist():
        p = int(value)
        if p < 2 or p > x.shape[1] // 3:
            continue
        rows = whole == value
        gap = (x[rows, p:] - x[rows, :-p]).norm(dim=2)
        rises = gap[:, 1:] > torch.maximum(gap[:, :-1], level[rows, None])
        result[rows] = ~rises.any(1)
    return result
