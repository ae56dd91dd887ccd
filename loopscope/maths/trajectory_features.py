"""Features of a trajectory from which its kind of limit is decided, before any threshold."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.finite import all_finite
from .neighbour_divergence import is_predictable
from .precision import rest_level
from .returns import Returns, fit_returns
from .sinusoids import fit_sinusoids
from .trajectory_array import random_projection
from .trajectory_precision import TrajectoryPrecision, trajectory_precision

FEWEST = 12
"""The fewest states from which the limit of a trajectory can be estimated."""
PERIODIC = 0.5
"""Fraction of the variance that a period must explain for its amplitude to be fitted."""
DAMPED = 0.8
"""Fraction of the variance that a damped rotation must explain for its decay to be used."""


@dataclass(frozen=True)
class Features:
    """Numbers per trajectory. The last three quarters of its states are called second, third and
    fourth; the third and the fourth are its late half. Sizes are relative to the largest number in
    the trajectory."""

    overflow: Int[Tensor, " row"]
    """The first k whose state is NaN or infinite; -1 if all are finite."""
    moves: Bool[Tensor, " row"]
    """Whether the late half moves by more than rounding."""
    spread: Float[Tensor, " row"]
    """Root mean square distance from the late half's mean, over the range: the largest distance of
    any state from that mean. A constant added to all states doesn't change it."""
    jitter: Float[Tensor, " row"]
    """The same over the larger of the norm and the range, where neighbouring states don't predict
    each other's successors, as those of noise don't; infinite where they do."""
    growth: Float[Tensor, " row"]
    """Mean norm in the fourth quarter over that in the third."""
    bend: Float[Tensor, " row"]
    """How the norm grows: 0 along a straight line, 0.5 along a parabola from the origin, 1
    exponentially."""
    bend_error: Float[Tensor, " row"]
    """The standard error of that."""
    swing: Float[Tensor, " row"]
    """Angle between the mean directions of the third and the fourth quarter, radians."""
    settling: Float[Tensor, " row"]
    """`swing` over the same between the second and the third."""
    wobble: Float[Tensor, " row"]
    """Root mean square deviation of the directions in the fourth quarter from their mean,
    radians."""
    climb: Float[Tensor, " row"]
    """Fraction of the variance of the norm, or of its logarithm, along a rising straight line over
    the three quarters."""
    decay: Float[Tensor, " row"]
    """Logarithm of the motion's size in the fourth quarter over that in the third. Where the motion
    turns: the growth of its amplitude's logarithm per quarter, fitted to these two."""
    decay_before: Float[Tensor, " row"]
    """The same for the second and the third."""
    decay_error: Float[Tensor, " row"]
    """The standard error of `decay` under white noise."""
    coherent: Float[Tensor, " row"]
    """Fraction of the late variance that a rotation explains whose amplitude grows or shrinks
    exponentially; NaN without one."""
    trend: Float[Tensor, " row"]
    """Fraction of the late variance along a straight line, 0..1."""
    steady: Float[Tensor, " row"]
    """The smaller of the two late quarters' velocities along that line, over its own; 1 for uniform
    motion."""
    arc: Float[Tensor, " row"]
    """Fraction of the late variance along a cubic, 0..1."""
    returns: Returns
    """The best period; see `loopscope.maths.returns`."""
    precision: TrajectoryPrecision
    """What the precision of the numbers allows to be told."""


# It is long because it fills a line for each field of the result.
def trajectory_features(
    x: Float[Tensor, "row iteration width"],
    rounding: float,
    others: Float[Tensor, " row"],
    *,
    noisy: bool = True,
) -> Features:
    """The features of trajectories, in double precision.

    Arguments:
        rounding: machine epsilon of the numbers as they were recorded.
        others: the scale of a row that never moves (`loopscope.maths.precision.state_scale`).
        noisy: whether the states may hold noise.

    Raises:
        LoopscopeError: fewer than FEWEST states.
    """
    rows, n, _ = x.shape
    if n < FEWEST:
        raise LoopscopeError(
            f"to tell where trajectories go they must have {FEWEST} states or more, but they have {n}. "
            "Record more iterations."
        )
    recorded, overflow = x, torch.full((rows,), -1, device=x.device)
    if not all_finite(x):
        bad = ~x.isfinite().all(2)
        overflow = torch.where(bad.any(1), bad.int().argmax(1), -1)
        x = torch.where((overflow >= 0)[:, None, None], torch.zeros_like(x), x)
    unit = torch.maximum(x.amax((1, 2), keepdim=True), -x.amin((1, 2), keepdim=True))
    x = x / unit.clamp(min=torch.finfo(x.dtype).tiny)
    h = n // 4
    quarters = [x[:, n - 3 * h : n - 2 * h], x[:, n - 2 * h : n - h], x[:, n - h :]]
    late = x[:, n - 2 * h :]
    centre = late.mean(1)
    spread = _rms(late - centre[:, None])
    size = _rms(late)
    span = (x - centre[:, None]).norm(dim=2).amax(1)
    moves = spread > rest_level(size, span, rounding)
    result = fit_returns(x, 2 * h / n, rounding)
    decay_before, decay, decay_error, coherent = _decays(quarters, result)
    growth, bend, bend_error, climb = _growth(quarters)
    swing, settling, wobble = _directions(quarters)
    trend, steady, arc = _paths(late - centre[:, None], h)
    return Features(
        overflow=overflow,
        moves=moves,
        spread=_ratio(spread, span),
        jitter=_jitter(late - centre[:, None], _ratio(spread, torch.maximum(size, span)), moves & noisy),
        growth=growth,
        bend=bend,
        bend_error=bend_error,
        swing=swing,
        settling=settling,
        wobble=wobble,
        climb=climb,
        decay=decay,
        decay_before=decay_before,
        decay_error=decay_error,
        coherent=coherent,
        trend=trend,
        steady=steady,
        arc=arc,
        returns=result,
        precision=trajectory_precision(recorded, result.whole, decay, rounding, others),
    )


def _jitter(late: Tensor, spread: Tensor, moves: Tensor) -> Tensor:
    """`spread`, or infinity where the motion is predictable or can't be noise."""
    result = torch.where(moves, spread, math.inf)
    index = (moves & (spread < 0.5)).nonzero()[:, 0]
    if len(index):
        predictable = is_predictable(random_projection(late[index]))
        result[index[predictable]] = math.inf
    return result


def _decays(quarters: list[Tensor], result: Returns) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(decay_before, decay, decay_error, coherent)"""
    logs = torch.stack([_rms(q - q.mean(1, keepdim=True)) for q in quarters]).clamp(min=1e-300).log()
    before, decay = logs[1] - logs[0], logs[2] - logs[1]
    h = quarters[0].shape[1]
    # the noise of the states from their second differences, which are small for a smooth motion
    noise = _rms(torch.cat(quarters, dim=1).diff(dim=1).diff(dim=1)) / math.sqrt(6)
    error = noise / logs[1:].exp().min(0).values * math.sqrt(2 / h)
    coherent = torch.full_like(decay, math.nan)
    turning = ((result.quality > PERIODIC) & (result.angle > 0)).nonzero()[:, 0]
    if not len(turning):
        return before, decay, error, coherent
    harmonics = torch.arange(
        1.0, 1 + max(1, min(5, (2 * h - 4) // 8)), dtype=decay.dtype, device=decay.device
    )[:, None]
    projections = [random_projection(q[turning]) for q in quarters]
    angle = result.angle[turning, None]
    late = fit_sinusoids(torch.cat(projections[1:], dim=1), angle, harmonics, rounds=6, damped=True)
    early = fit_sinusoids(torch.cat(projections[:2], dim=1), late.angles, harmonics, rounds=4, damped=True)
    coherent[turning] = 1 - late.unexplained
    good = late.unexplained < 1 - DAMPED
    index = turning[good]
    before[index], decay[index] = early.rate[good] * h, late.rate[good] * h
    error[index] = late.rate_error[good] * h
    return before, decay, error, coherent


def _growth(quarters: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(growth, bend, bend_error, climb)"""
    norms = torch.stack([q.norm(dim=2) for q in quarters])  # (quarter, row, iteration)
    a, b, c = norms.mean(2).clamp(min=1e-300)
    middle, geometric = (a + c) / 2, (a * c).sqrt()
    gap = (middle - geometric).clamp(min=1e-12 * middle)
    h = norms.shape[2]
    # the noise of a norm from its second differences, which are small for a smooth growth
    noise = norms.diff(dim=2).diff(dim=2).square().mean((0, 2)).div(6).sqrt()
    climb = []
    for series in (norms, norms.clamp(min=1e-300).log()):
        flat = series.transpose(0, 1).flatten(1)
        line = torch.linspace(-1, 1, 3 * h, dtype=flat.dtype, device=flat.device)
        flat = flat - flat.mean(1, keepdim=True)
        along = (flat @ line).clamp(min=0).square() / line.square().sum()
        climb.append(_ratio(along, flat.square().sum(1)))
    return c / b, (middle - b) / gap, 1.23 * noise / math.sqrt(h) / gap, torch.maximum(*climb)


def _directions(quarters: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    units = [torch.nn.functional.normalize(q, dim=2, eps=1e-300) for q in quarters]
    means = [torch.nn.functional.normalize(u.mean(1), dim=1, eps=1e-300) for u in units]
    before, after = (
        (2 * ((a - b).norm(dim=1) / 2).clamp(max=1).asin()) for a, b in zip(means, means[1:], strict=False)
    )
    wobble = _rms(units[2] - means[2][:, None])
    return after, _ratio(after, before), wobble


def _paths(late: Tensor, h: int) -> tuple[Tensor, Tensor, Tensor]:
    m = late.shape[1]
    total = late.square().sum((1, 2)).clamp(min=1e-300)
    k = torch.linspace(-1, 1, m, dtype=late.dtype, device=late.device)
    cubic = torch.linalg.qr(torch.stack([torch.ones_like(k), k, k**2, k**3], dim=1)).Q[:, 1:]
    shares = torch.einsum("mf,rmw->rfw", cubic, late).square().sum(2) / total[:, None]
    slope = torch.einsum("m,rmw->rw", k, late) / k.square().sum()
    part = k[:h] - k[:h].mean()
    velocities = [
        torch.einsum("m,rmw->rw", part, q) / part.square().sum() for q in (late[:, :h], late[:, h:])
    ]
    along = torch.stack([(v * slope).sum(1) for v in velocities]) / slope.square().sum(1).clamp(min=1e-300)
    return shares[:, 0], along.min(0).values, shares.sum(1)


def _rms(vectors: Float[Tensor, "row iteration width"]) -> Float[Tensor, " row"]:
    return vectors.square().sum(2).mean(1).sqrt()


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(a == 0, torch.zeros_like(a), a / b.clamp(min=1e-300))
