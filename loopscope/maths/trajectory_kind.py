"""The kind of limit of a trajectory: a fixed point, an orbit, a torus, a slider, a drift,
divergence, none of these, or one that the precision of the numbers can't tell.

>>> x = torch.full((1, 1), 0.4, dtype=torch.float64)
>>> states = [x := 3.83 * x * (1 - x) for _ in range(300)]
>>> limits(torch.stack(states))[0]
TrajectoryLimit(kind=<Kind.orbit: 'goes round an orbit'>, period=3.0, angle=2.09..., ...)

Geiping et al. 2025 (arXiv 2502.05171) name fixed points, orbits and sliders; Blayney et al. 2026
(arXiv 2604.11791, appendix C.1) count them. Their algorithm isn't fully stated; this one is, and
its thresholds are arguments.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.arguments import Numbers, PositiveCount
from ..common.errors import LoopscopeError, nearest
from ..common.guard import guarded
from .kind_thresholds import Thresholds
from .period import Period, apply_coherence
from .precision import precision, state_scale
from .returns import Returns
from .trajectory_array import trajectories
from .trajectory_features import Features, trajectory_features
from .trajectory_precision import TrajectoryPrecision

CHUNK = 8_000_000
"""Bytes of trajectories, in double precision, that features are measured of at once: about what
stays in a processor's cache."""


class Kind(Enum):
    """The kind of limit of a trajectory. The order is that of the codes."""

    fixed_point = "comes to rest at a point"
    orbit = "goes round an orbit"
    torus = "winds with two independent frequencies"
    slider = "drifts outward: it settles in direction while its norm grows"
    drifting = "drifts on without returning, and not straight outward"
    irregular = "goes on moving without a period"
    diverging = "grows exponentially or overflows"
    unresolved = "moves in a way that the precision of its numbers can't tell from others"


KINDS = tuple(Kind)
_CODE = {kind: code for code, kind in enumerate(KINDS)}


class TrajectoryLimit(NamedTuple):
    """The limit of one trajectory; the fields are those of `Limits`."""

    kind: Kind
    period: float
    angle: float
    second: float
    quality: float
    overflow: int | None
    """The first k whose state is NaN or infinite; None if all are finite."""


@dataclass(frozen=True)
class Limits:
    """The limits of trajectories. Shapes (...): those of the trajectories without iteration and
    width."""

    code: Int[Tensor, "..."]
    """The number of the kind in `KINDS`."""
    period: Float[Tensor, "..."]
    """Iterations per return of an orbit, whole or not; 1 at a fixed point; else NaN."""
    angle: Float[Tensor, "..."]
    """Rotation per iteration of an orbit or torus, radians in 0..pi; 0 at a fixed point; else
    NaN."""
    second: Float[Tensor, "..."]
    """The second angle of a torus; else NaN."""
    whole: Bool[Tensor, "..."]
    """Whether an orbit closes after a whole number of iterations."""
    quality: Float[Tensor, "..."]
    """Fraction of the late variance that the best period explains."""
    overflow: Int[Tensor, "..."]
    """The first k whose state is NaN or infinite; -1 if all are finite."""
    thresholds: Thresholds

    def __getitem__(self, index: Any) -> TrajectoryLimit:
        """The limit of one trajectory, by its place: `limits[3, 0]`."""
        period, angle, second, quality = (
            float(getattr(self, name)[index]) for name in ("period", "angle", "second", "quality")
        )
        overflow = int(self.overflow[index])
        kind = KINDS[int(self.code[index])]
        return TrajectoryLimit(kind, period, angle, second, quality, None if overflow < 0 else overflow)

    def of(self, kind: Kind | str) -> Bool[Tensor, "..."]:
        """Which trajectories are of a kind.

        Raises:
            LoopscopeError: an unknown kind.
        """
        return self.code == _CODE[_kind(kind)]

    def shares(self) -> dict[Kind, float]:
        """Fraction of the trajectories of each kind."""
        counts = torch.bincount(self.code.flatten(), minlength=len(KINDS)).double() / max(
            1, self.code.numel()
        )
        return dict(zip(KINDS, counts.tolist(), strict=True))


@guarded
def limits(
    states: Numbers, thresholds: Thresholds | None = None, *, chunk: PositiveCount = 2048, **changes: float
) -> Limits:
    """The limit of each trajectory.

    >>> limits(torch.ones(20, 2))[()].kind.name
    'fixed_point'

    The kinds are tried in this order. NaN or infinity, or growth that is geometric: diverging. No
    motion beyond rounding, or motion that shrinks geometrically (quickly, or slowly along a smooth
    path): fixed point. A norm that grows in a settling direction: slider. Two frequencies: torus;
    one period: orbit. A steady or smooth path: drifting. Little noise about a mean: fixed point.
    The rest: irregular. An orbit that is observed for less than one turn counts as drifting, a
    spiral as a fixed point.

    Rounding is judged by the dtype of `states`, which must be the one that they were computed in.
    Where it can't tell a kind from others it is unresolved
    (`loopscope.maths.trajectory_precision`): rest from slow motion, or chaos, a torus and a long
    cycle from each other, in numbers of few digits or beside a large constant. A constant that is
    added to all states changes no kind but
    slider, which the norm defines: beside a large constant it is drifting.

    Arguments:
        states: (iteration, ..., width), or (iteration,) for numbers; any real dtype, a tensor or an
            array.
        thresholds: between the kinds; None means the defaults.
        chunk: trajectories that are computed at once; it bounds the memory beyond the result.
        changes: single thresholds by name, such as noise=0.01.

    Raises:
        LoopscopeError: fewer than twelve states, or a threshold outside its range.
    """
    thresholds = replace(thresholds or Thresholds(), **changes)
    _, shape = trajectories(states)
    return join_limits([_classify(measure_features(states, chunk=chunk), thresholds)], shape)


@guarded
def stream(chunks: Iterable[Any], thresholds: Thresholds | None = None, **changes: float) -> Iterator[Limits]:
    """`limits` of one array (iteration, row, width) after the other, for more trajectories than fit
    in memory."""
    if isinstance(chunks, Tensor | np.ndarray):
        raise LoopscopeError(
            "chunks must be several arrays, one after the other, but is one array. Use limits."
        )
    limits_thresholds = replace(thresholds or Thresholds(), **changes)
    return (limits(states, limits_thresholds) for states in chunks)


def measure_features(
    states: Any, *, chunk: int = 2048, noisy: bool = True, across: float | None = None
) -> Features:
    """The features that `limits` reads, to classify them by several thresholds:
    `classify_features(measure_features(states), thresholds)`.

    Arguments:
        chunk: trajectories that are computed at once; fewer where they are long or wide.
        noisy: whether the states may hold noise, as measured data do. Without it unpredictable
            motion is no noise, however small.
        across: the spread between all last states, where these are some of them
            (`loopscope.maths.precision.spread_between`); None: these are all.
    """
    x, _ = trajectories(states)
    eps = precision(states)
    last = x[-1].double()
    others = state_scale(last, torch.zeros_like(last[:, 0]), eps, across)
    size = max(1, min(chunk, CHUNK // (8 * x.shape[0] * x.shape[2])))
    parts = [
        trajectory_features(part.double().transpose(0, 1), eps, scale, noisy=noisy)
        for part, scale in zip(x.split(size, dim=1), others.split(size), strict=True)
    ]
    return join_features(parts)


def join_features(parts: Sequence[Features]) -> Features:
    """The features of several sets of trajectories as one."""
    names = [name for name in vars(parts[0]) if name not in ("returns", "precision")]
    columns = {name: torch.cat([vars(part)[name] for part in parts]) for name in names}
    return Features(
        **columns,
        returns=Returns(*(torch.cat(c) for c in zip(*(p.returns for p in parts), strict=True))),
        precision=TrajectoryPrecision(
            *(torch.cat(c) for c in zip(*(p.precision for p in parts), strict=True))
        ),
    )


def classify_features(result: Features, thresholds: Thresholds | None = None, **changes: float) -> Limits:
    """Apply thresholds to measured features; shapes (row,)."""
    return _classify(result, replace(thresholds or Thresholds(), **changes))


def join_limits(parts: list[Limits], shape: tuple[int, ...]) -> Limits:
    """Several results as one, in one shape."""
    names = [name for name in vars(parts[0]) if name != "thresholds"]
    columns = {name: torch.cat([getattr(part, name) for part in parts]).reshape(shape) for name in names}
    return Limits(**columns, thresholds=parts[0].thresholds)


def _classify(f: Features, t: Thresholds) -> Limits:
    period: Period = apply_coherence(f.returns, t.coherence)
    turns, quasiperiodic = ~period.period.isnan(), ~period.second.isnan()
    spirals = (f.coherent >= t.coherence) & ~f.returns.erratic
    smooth = spirals | quasiperiodic | ((f.arc >= t.arc) & ~turns)
    ratio = torch.where(f.decay * f.decay_before > 0, f.decay / f.decay_before, torch.zeros_like(f.decay))
    certain = f.decay.abs() >= 5 * f.decay_error
    # where the change of size is accurate to a few percent, geometric means to a few percent
    exact = spirals & (f.decay.abs() >= (30 * f.decay_error).clamp(min=0.005)) & ((ratio - 1).abs() <= 0.05)
    steadily = (
        smooth & certain & (f.decay.abs() >= -math.log(t.slow)) & (ratio >= t.geometric) & (ratio <= 1.5)
    )
    geometric = exact | steadily
    quickly = (f.decay <= 1.5 * math.log(t.shrink)) | (
        (f.decay <= math.log(t.shrink)) & (f.decay_before <= math.log(t.shrink) / 2)
    )
    rises = f.climb >= 0.5
    explodes = (f.growth >= t.explosion) & (f.bend - 2 * f.bend_error > 0.5) & rises
    settled = (f.swing <= t.swing) | (f.settling <= 0.75)
    slides = (f.growth >= t.growth) & settled & (f.wobble <= 6 * t.swing) & rises
    keeps = (f.decay.abs() <= -math.log(t.slow)) | (
        (ratio < t.geometric) & (f.decay.abs() <= -3 * math.log(t.slow))
    )
    keeps |= f.coherent.isnan() | (f.coherent < t.coherence) | ~certain
    fades = (f.decay <= math.log(0.75)) & (f.spread <= t.noise)
    drifts = ((f.trend >= t.trend) & (f.steady >= 0.6)) | ((f.arc >= t.arc) & ~fades)
    rules: list[tuple[Tensor, Kind]] = [
        (f.overflow >= 0, Kind.diverging),
        (~f.moves, Kind.fixed_point),
        (explodes | (geometric & (f.decay > 0)), Kind.diverging),
        (quickly | (geometric & (f.decay < 0) & (~slides | (ratio >= 0.95))), Kind.fixed_point),
        (slides, Kind.slider),
        (quasiperiodic & keeps, Kind.torus),
        (turns & keeps, Kind.orbit),
        (drifts | turns | quasiperiodic, Kind.drifting),
        ((f.spread <= t.noise) | (f.jitter <= t.noise), Kind.fixed_point),
    ]
    code = torch.full_like(f.overflow, _CODE[Kind.irregular])
    for applies, kind in reversed(rules):
        code = torch.where(applies, _CODE[kind], code)
    code = torch.where(_is_certain(code, f), code, _CODE[Kind.unresolved])
    point, round_ = code == _CODE[Kind.fixed_point], code == _CODE[Kind.orbit]
    nan = torch.full_like(period.angle, math.nan)
    winding = code == _CODE[Kind.torus]
    return Limits(
        code=code,
        period=torch.where(point, 1.0, torch.where(round_, period.period, nan)),
        angle=torch.where(point, 0.0, torch.where(round_ | winding, period.angle, nan)),
        second=torch.where(winding, period.second, nan),
        whole=round_ & period.whole,
        quality=f.returns.quality,
        overflow=f.overflow,
        thresholds=t,
    )


def _is_certain(code: Tensor, f: Features) -> Bool[Tensor, " row"]:
    """Whether the precision of the numbers allows to tell the kind from others."""
    certain, closes = f.precision, f.returns.whole >= 2
    creeps = ~f.moves & (f.trend >= 0.9) & (f.steady >= 0.9)  # as rounding never does
    by_kind = {
        Kind.fixed_point: certain.rest & ~creeps,
        Kind.orbit: torch.where(closes, certain.cycle, certain.fine),
        Kind.torus: certain.fine,
        Kind.irregular: certain.fine,
        Kind.slider: certain.steady,
        Kind.drifting: certain.steady,
        Kind.diverging: certain.growth | (f.overflow == 0) | (f.overflow == 1),
    }
    result = torch.zeros_like(certain.rest)
    for kind, holds in by_kind.items():
        result |= (code == _CODE[kind]) & holds
    return result


def _kind(kind: Kind | str) -> Kind:
    if isinstance(kind, str):
        if kind not in Kind.__members__:
            raise LoopscopeError(
                f"there is no kind of limit called {kind!r}. {nearest(kind, Kind.__members__)}"
            )
        return Kind[kind]
    return kind
