"""Returns: the best period of each trajectory, and what it explains, before any threshold.

A whole period p has the smallest misfit e(p) = mean ‖x_(k+p) - x_k‖² / 2 Var x (`lag_misfit`). A
rotation that never closes is fitted by least squares with its harmonics (`harmonics`), a second
independent frequency by `two_frequencies`.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..common.errors import LoopscopeError
from .harmonics import MAX_UNEXPLAINED, fit_rotation
from .lag_misfit import MIN_GAIN, lag_misfits, returns_drift, whole_period
from .neighbour_divergence import is_chaotic
from .precision import rest_level
from .trajectory_array import random_projection
from .two_frequencies import fit_two_rotations

COHERENCE = 0.95
"""Fraction of the variance that a period must explain."""
FEWEST = 8
"""The fewest states from which a period can be estimated."""
LAG_PRECISION = 1e-13
"""Relative error of e(p), which is a difference of squares."""


class Returns(NamedTuple):
    """What is measured of each trajectory before any threshold; see `loopscope.maths.Period`."""

    whole: Float[Tensor, "..."]
    """The whole period, 1 for a point, 0 for an orbit that never closes."""
    angle: Float[Tensor, "..."]
    quality: Float[Tensor, "..."]
    second: Float[Tensor, "..."]
    winding: Float[Tensor, "..."]
    erratic: Bool[Tensor, "..."]


def fit_returns(x: Float[Tensor, "row iteration width"], window: float, rounding: float) -> Returns:
    """The best period of each trajectory, and what it explains, before any threshold.

    Arguments:
        window: fraction of the trajectory, from its end; where it shows no period, all of it is
            used.
        rounding: machine epsilon of the numbers as they were recorded.

    Raises:
        LoopscopeError: fewer than FEWEST states.
    """
    rows, n, _ = x.shape
    if n < FEWEST:
        raise LoopscopeError(
            f"a period needs trajectories of {FEWEST} states or more, but they have {n}. Record more "
            "iterations."
        )
    x = random_projection(x)
    m = min(n, max(FEWEST, math.ceil(n * window)))
    late = x[:, n - m :]
    finite = x.isfinite().all((1, 2))
    spread = (late - late.mean(1, keepdim=True)).square().sum(2).mean(1).sqrt()
    size = late.square().sum(2).mean(1).sqrt()
    span = (x - late.mean(1, keepdim=True)).norm(dim=2).amax(1)
    level = rest_level(size, span, rounding)
    moves = finite & (spread > level)
    point = torch.where(finite, 1.0, math.nan).to(x)
    nan = torch.full_like(point, math.nan)
    out = Returns(
        point.nan_to_num(0), point - 1, point.nan_to_num(0), nan, nan.clone(), torch.zeros_like(finite)
    )
    index = moves.nonzero()[:, 0]
    if not len(index):
        return out
    result = _fit_moving(late[index], level[index])
    if m < n:  # where the window shows no period, one turn may be longer
        wide = (x - x.mean(1, keepdim=True)).square().sum(2).mean(1)[index]
        poor = torch.maximum(result.quality, result.winding.nan_to_num(0)) < COHERENCE
        still = spread[index].square() > 0.1 * wide  # motion at the beginning only is a transient
        lags = lag_misfits(x[index] - x[index].mean(1, keepdim=True), wide, n // 2)
        still &= (lags[:, 0] < 0.3) | (lags[:, 1:].min(1).values < 1 - COHERENCE)
        again = (poor & ~result.erratic & still).nonzero()[:, 0]
        if len(again):
            longer = _fit_moving(x[index[again]], level[index[again]])
            gain = (
                torch.maximum(longer.quality, longer.winding.nan_to_num(0)) >= COHERENCE
            ) & ~longer.erratic
            for column, new in zip(result, longer, strict=True):
                column[again[gain]] = new[gain]
    for column, new in zip(out, result, strict=True):
        column[index] = new
    return out


def _fit_moving(x: Float[Tensor, "row iteration width"], level: Float[Tensor, " row"]) -> Returns:
    """The best period of trajectories that move by more than `level`."""
    x = x - x.mean(1, keepdim=True)
    variance = x.square().sum(2).mean(1)
    floor = level.square() / variance + LAG_PRECISION
    angle, unexplained, error = fit_rotation(x)
    p, misfit, j = whole_period(x, variance, floor)
    periodic = p > 0
    ideal = 2 * math.pi * j / p.clamp(min=1)
    away = (angle - ideal).abs()
    # It doesn't close where sinusoids of another angle describe it at least as well, and either
    # their angle is certain or the returns drift.
    near = away < 2 * math.pi / x.shape[1]
    certain = near & (away > (4 * error).clamp(min=1e-9)) & (unexplained <= 1.2 * misfit + floor)
    drifts = returns_drift(x, p, misfit, floor) & (unexplained <= 2 * misfit + floor)
    other = certain | ((away > (3 * error).clamp(min=1e-9)) & (drifts | (unexplained < MIN_GAIN * misfit)))
    closes = periodic & (~other | (misfit <= floor))
    unexplained = torch.where(closes, misfit, unexplained)
    first = torch.where(closes, ideal, angle)
    second, winding = torch.full_like(first, math.nan), torch.full_like(first, math.nan)
    candidates = ((unexplained > 1e-9) & (unexplained < MAX_UNEXPLAINED)).nonzero()[:, 0]
    if len(candidates):
        two, resonant = fit_two_rotations(x[candidates])
        wins = (two.unexplained < 0.5 * unexplained[candidates]) & ~resonant
        rows = candidates[wins]
        first[rows], second[rows] = two.angles[wins].unbind(1)
        winding[rows] = 1 - two.unexplained[wins]
        closes[rows] = False
    erratic = torch.zeros_like(closes)
    doubtful = ((unexplained > 1e-6) & (unexplained < 0.5) & winding.isnan()).nonzero()[:, 0]
    if len(doubtful):
        erratic[doubtful] = is_chaotic(x[doubtful], unexplained[doubtful])
    return Returns(
        torch.where(closes, p, 0.0), first, (1 - unexplained).clamp(0, 1), second, winding, erratic
    )
