"""The period of a trajectory: a whole number of iterations, or a rotation by an angle that never
closes.

>>> import torch, loopscope.maths as maths
>>> k = torch.arange(128) * 0.7                       # a rotation by 0.7 radians
>>> found = maths.period(torch.stack([k.cos(), k.sin()], dim=1))
>>> found.period, found.angle, found.whole
(tensor(8.9760, dtype=torch.float64), tensor(0.7000, dtype=torch.float64), tensor(False))
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from .neighbour_divergence import divergence
from .sinusoids import Tones, fit, peak, residual

COHERENCE = 0.95
"""Fraction of the variance that a period must explain."""
WINDOW = 0.5
"""Fraction of the trajectory, from its end, that is looked at: what comes before may be a
transient."""
FEWEST = 8
"""States that say something about a period."""
MOST_WIDTH = 16
"""Wider states are projected to this many random directions first, which keeps every period and
angle."""
_CLOSES = 2.5  # a return that has drifted on by this factor in mean square is no return
_FINER = 0.2  # a finer description of an orbit must leave this fraction of what the simpler one leaves
_HOPELESS = 0.7  # where one rotation leaves more than this, neither harmonics nor a second one can make a period of it
_ONCE = 1e-4  # a return that is seen only once must be this good
_EXACT = 1e-13  # what e(p) is known to, being a difference of squares
_TURN = 0.98  # turns that must be seen
_ROUNDING = 100.0


@dataclass(frozen=True)
class Period:
    """How trajectories return. Shapes (...): those of the trajectories without iteration and
    width."""

    period: Float[Tensor, "..."]
    """Iterations per return: whole for an orbit that closes, 2 pi / angle for one that doesn't, 1
    for a point. NaN: none."""
    angle: Float[Tensor, "..."]
    """Rotation per iteration in radians, 0..pi: 2 pi j / p for an orbit that closes after j turns.
    NaN: none."""
    whole: Bool[Tensor, "..."]
    """Whether the orbit closes after a whole number of iterations."""
    quality: Float[Tensor, "..."]
    """Fraction of the variance in the window that the best period explains, 0..1; also where it is
    too little for one."""
    second: Float[Tensor, "..."]
    """The second angle of a motion that winds with two, radians per iteration (`angle` is the
    first); else NaN."""
    winding: Float[Tensor, "..."]
    """Fraction of the variance that two independent angles explain; NaN where one explains it as
    well."""
    erratic: Bool[Tensor, "..."]
    """Whether what the period leaves is chaos rather than noise: neighbours predict it, and part.
    Then it is no period."""


def period(states: Any, *, window: float = WINDOW, coherence: float = COHERENCE, chunk: int = 2048) -> Period:
    """The period and the rotation angle of each trajectory.

    A whole period p is the smallest with e(p) = mean ‖x_(k+p) - x_k‖² / 2 Var x at most 1 -
    coherence and at most twice the least e; and it has to close: where x_(k+jp) drifts on with j as
    a tone of another angle does, the orbit is a rotation that never closes, and its angle is fitted
    by least squares, together with its harmonics (`loopscope.maths.tone`). Harmonics, also those
    that alias, are told from a second, independent frequency. Chaos that passes through bands in
    turn looks like a noisy period; it is told by its neighbours, which predict it and yet part
    (`loopscope.maths.neighbours`).

    Arguments:
        states: (iteration, ..., width), or (iteration,) for numbers; any real dtype, a tensor or an
            array.
        window: fraction of the trajectory, from its end, that is looked at; where it shows no
            period, the whole is.
        coherence: fraction of the variance that a period must explain.
        chunk: trajectories that are worked on at once.
    """
    x, shape = trajectories(states)
    checked_fraction("window", window, 0.5)
    checked_fraction("coherence", coherence, COHERENCE)
    rounding = precision(states)
    parts = [
        returns(part.double().transpose(0, 1), window, rounding) for part in x.split(max(1, chunk), dim=1)
    ]
    return judged(
        Returns(*(torch.cat(column).reshape(shape) for column in zip(*parts, strict=True))), coherence
    )


class Returns(NamedTuple):
    """What is measured of each trajectory before any threshold; see `Period`."""

    whole: Float[Tensor, "..."]
    """The whole period, 1 for a point, 0 if it isn't whole."""
    angle: Float[Tensor, "..."]
    quality: Float[Tensor, "..."]
    second: Float[Tensor, "..."]
    winding: Float[Tensor, "..."]
    erratic: Bool[Tensor, "..."]


def judged(result: Returns, coherence: float) -> Period:
    """Those of the measured returns that explain enough."""
    torus = (result.winding >= coherence) & ~result.erratic
    orbit = (result.quality >= coherence) & ~result.erratic & ~torus
    nan = torch.full_like(result.angle, math.nan)
    return Period(
        period=torch.where(
            orbit, torch.where(result.whole > 0, result.whole, 2 * math.pi / result.angle), nan
        ),
        angle=torch.where(orbit | torus, result.angle, nan),
        whole=orbit & (result.whole > 0),
        quality=result.quality,
        second=torch.where(torus, result.second, nan),
        winding=result.winding,
        erratic=result.erratic,
    )


def returns(x: Float[Tensor, "row iteration width"], window: float, rounding: float) -> Returns:
    """The best period of each trajectory, and what it explains, before any threshold.

    Arguments:
        rounding: size of the numbers' last place, relative; what moves less than a hundred times
            that is a point.
    """
    rows, n, _ = x.shape
    if n < FEWEST:
        raise LoopscopeError(
            f"a period needs trajectories of {FEWEST} states or more, but they have {n}. Record more "
            "iterations."
        )
    x = sketched(x)
    m = min(n, max(FEWEST, math.ceil(n * window)))
    late = x[:, n - m :]
    finite = x.isfinite().all((1, 2))
    spread = (late - late.mean(1, keepdim=True)).square().sum(2).mean(1).sqrt()
    size = late.square().sum(2).mean(1).sqrt()
    moves = finite & (spread > _ROUNDING * rounding * size)
    point = torch.where(finite, 1.0, math.nan).to(x)
    nan = torch.full_like(point, math.nan)
    out = Returns(
        point.nan_to_num(0), point - 1, point.nan_to_num(0), nan, nan.clone(), torch.zeros_like(finite)
    )
    index = moves.nonzero()[:, 0]
    if not len(index):
        return out
    result = _moving(late[index], rounding)
    if m < n:  # nothing in the window: perhaps one turn takes longer
        wide = (x - x.mean(1, keepdim=True)).square().sum(2).mean(1)[index]
        poor = torch.maximum(result.quality, result.winding.nan_to_num(0)) < COHERENCE
        still = spread[index].square() > 0.1 * wide  # what moves early only is a transient
        lags = _lags(x[index] - x[index].mean(1, keepdim=True), wide, n // 2)
        still &= (lags[:, 0] < 0.3) | (lags[:, 1:].min(1).values < 1 - COHERENCE)
        again = (poor & ~result.erratic & still).nonzero()[:, 0]
        if len(again):
            longer = _moving(x[index[again]], rounding)
            gain = (
                torch.maximum(longer.quality, longer.winding.nan_to_num(0)) >= COHERENCE
            ) & ~longer.erratic
            for column, new in zip(result, longer, strict=True):
                column[again[gain]] = new[gain]
    for column, new in zip(out, result, strict=True):
        column[index] = new
    return out


def _moving(x: Float[Tensor, "row iteration width"], rounding: float) -> Returns:
    floor = (_ROUNDING * rounding) ** 2 * x.square().sum(2).mean(1)
    x = x - x.mean(1, keepdim=True)
    variance = x.square().sum(2).mean(1)
    floor = floor / variance + _EXACT
    angle, left, error = _rotation(x)
    p, misfit, j = _whole(x, variance, floor)
    has = p > 0
    ideal = 2 * math.pi * j / p.clamp(min=1)
    away = (angle - ideal).abs()
    # Tones of another angle describe it at least as well, and they say so beyond doubt or the
    # returns drift on: no return.
    near = away < 2 * math.pi / x.shape[1]
    certain = near & (away > (4 * error).clamp(min=1e-9)) & (left <= 1.2 * misfit + floor)
    drifts = _drifts(x, p, misfit, floor) & (left <= 2 * misfit + floor)
    other = certain | ((away > (3 * error).clamp(min=1e-9)) & (drifts | (left < _FINER * misfit)))
    closes = has & (~other | (misfit <= floor))
    left = torch.where(closes, misfit, left)
    first = torch.where(closes, ideal, angle)
    second, winding = torch.full_like(first, math.nan), torch.full_like(first, math.nan)
    need = ((left > 1e-9) & (left < _HOPELESS)).nonzero()[:, 0]
    if len(need):
        two, resonant = _two(x[need])
        wins = (two.unexplained < 0.5 * left[need]) & ~resonant
        own = need[wins]
        first[own], second[own] = two.angles[wins].unbind(1)
        winding[own] = 1 - two.unexplained[wins]
        closes[own] = False
    erratic = torch.zeros_like(closes)
    doubtful = ((left > 1e-6) & (left < 0.5) & winding.isnan()).nonzero()[:, 0]
    if len(doubtful):
        erratic[doubtful] = divergence(x[doubtful], left[doubtful])
    return Returns(torch.where(closes, p, 0.0), first, (1 - left).clamp(0, 1), second, winding, erratic)


def _whole(x: Tensor, variance: Tensor, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(p, e(p), j): the smallest whole period that returns as well as any, or 0; it makes j
    turns."""
    rows, m, _ = x.shape
    most = m // 2
    misfit = _lags(x, variance, most)
    away = misfit.cummax(1).values[:, :-1]  # how far it goes before it is back
    misfit = misfit[:, 1:]
    least = misfit.min(1).values
    good = (misfit <= 2 * least[:, None] + floor[:, None]) & (misfit < 0.5) & (misfit < _FINER * away)
    once = 2 + torch.arange(misfit.shape[1], device=x.device) > m // 3
    good &= ~once | (misfit < _ONCE)
    p = torch.where(good.any(1), good.int().argmax(1) + 2, 0)
    chosen = misfit.gather(1, (p - 2).clamp(min=0)[:, None])[:, 0]
    j = torch.ones_like(p)
    for value in p.unique().tolist():
        if value > 3:
            own = p == value
            j[own] = _turns(x[own], value)
    return p.to(x.dtype), torch.where(p > 0, chosen, math.inf), j.to(x.dtype)


def _lags(x: Tensor, variance: Tensor, most: int) -> Float[Tensor, "row lag"]:
    """e(p) for p = 1..most."""
    m = x.shape[1]
    spectrum = torch.fft.rfft(x, n=m + most, dim=1).abs().square().sum(2)
    product = torch.fft.irfft(spectrum, n=m + most, dim=1)[:, 1 : most + 1]  # sum of x_k x_(k+p)
    square = x.square().sum(2).cumsum(1)
    count = m - torch.arange(1, most + 1, device=x.device)
    ends = square[:, count - 1] + square[:, -1:] - square[:, :most]
    return ((ends - 2 * product) / count).clamp(min=0) / (2 * variance[:, None])


def _turns(x: Tensor, p: int) -> Int[Tensor, " row"]:
    """How often an orbit of period p goes round before it closes: the strongest harmonic that is
    prime to p."""
    m = x.shape[1] // p * p
    power = torch.fft.rfft(x[:, -m:].unflatten(1, (-1, p)).mean(1), dim=1).abs().square().sum(2)
    prime = [j for j in range(1, p // 2 + 1) if math.gcd(j, p) == 1]
    own = power[:, prime]
    strongest = torch.tensor(prime, device=x.device)[own.argmax(1)]
    seen = own.max(1).values > 1e-6 * power[:, 1:].sum(1)
    return torch.where(seen, strongest, 1)


def _drifts(x: Tensor, p: Tensor, misfit: Tensor, floor: Tensor) -> Bool[Tensor, " row"]:
    """Whether x_(k+jp) is farther from x_k than x_(k+p): noise returns as badly after j periods as
    after one."""
    rows, m, _ = x.shape
    far = torch.zeros_like(misfit)
    for value in p.int().unique().tolist():
        times = (3 * m // 4) // value if value else 0
        if times < 2:
            continue
        own = p == value
        y = x[own]
        lag = times * value
        far[own] = (y[:, lag:] - y[:, :-lag]).square().sum(2).mean(1) / (2 * y.square().sum(2).mean(1))
    return far > _CLOSES * misfit + floor


def _rotation(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(angle, unexplained, error) of the one rotation that describes the orbit best, with harmonics
    where it has them."""
    m = x.shape[1]
    one = x.new_ones(1, 1)
    result = fit(x, peak(x)[:, None], one)
    angle, left, error = result.angles[:, 0].clone(), result.unexplained.clone(), result.error[:, 0].clone()
    harmonics = max(1, min(5, (m - 4) // 8))
    many = torch.arange(1.0, harmonics + 1, dtype=x.dtype, device=x.device)[:, None]
    rest = ((left > 1e-9) & (left < _HOPELESS)).nonzero()[:, 0]
    if len(rest) and harmonics > 1:
        y, w = x[rest], angle[rest]
        other = peak(residual(y, w[:, None], one))
        # the fundamental may be weaker than a harmonic of it, or folded back at pi
        turn = 2 * math.pi
        guesses = [
            w,
            w / 2,
            w / 3,
            (turn - w) / 2,
            (turn - w) / 3,
            (turn + w) / 3,
            other,
            other / 2,
            (turn - other) / 2,
        ]
        tries = torch.stack(guesses, dim=1).clamp(min=turn / m)
        slow = [torch.full_like(w, t == 0, dtype=torch.bool) for t in range(len(guesses))]
        scores = torch.stack(
            [
                fit(y, t[:, None], many, 0, slow=s).unexplained
                for t, s in zip(tries.unbind(1), slow, strict=True)
            ],
            dim=1,
        )
        scores[:, 0] *= 0.5  # the strongest tone is the fundamental unless another is clearly better
        best = scores.argmin(1)
        finer = fit(y, tries.gather(1, best[:, None]), many, slow=best == 0)
        real = finer.unexplained < 0.5 * left[rest]
        own = rest[real]
        angle[own], left[own], error[own] = (
            finer.angles[real, 0],
            finer.unexplained[real],
            finer.error[real, 0],
        )
    angle = _folded(angle)
    return angle, torch.where(angle < 2 * math.pi / m * _TURN, torch.ones_like(left), left), error


def _two(x: Tensor) -> tuple[Tones, Bool[Tensor, " row"]]:
    """The two rotations that describe a motion best, their sums and harmonics among the tones, and
    whether they are one after all: whether small multiples of the two angles agree."""
    m = x.shape[1]
    one = x.new_ones(1, 1)
    first = fit(x, peak(x)[:, None], one).angles
    second = peak(residual(x, first, one))[:, None]
    pairs = [[1, 0], [0, 1], [2, 0], [0, 2], [1, 1], [1, -1]]
    both = fit(x, torch.cat([first, second], dim=1), x.new_tensor(pairs[:2]))
    if m >= 64 and bool((both.unexplained > 1e-6).any()):
        rich = fit(x, both.angles, x.new_tensor(pairs))
        finer = (rich.unexplained < 0.5 * both.unexplained) & (both.unexplained > 1e-6)
        both = Tones(
            *(torch.where(finer.view(-1, *[1] * (b.ndim - 1)), a, b) for a, b in zip(rich, both, strict=True))
        )
    small = torch.tensor(
        [[p, q] for p in range(1, 6) for q in range(-5, 6) if q], dtype=x.dtype, device=x.device
    )
    apart = (both.angles @ small.T).remainder(2 * math.pi)
    apart = torch.minimum(apart, 2 * math.pi - apart)
    resonant = (apart < 5 * both.error @ small.abs().T + 1e-9).any(1)
    angles = _folded(both.angles)
    turn = 2 * math.pi / m
    resonant |= (angles < _TURN * turn).any(1) | ((angles[:, 0] - angles[:, 1]).abs() < 2 * turn)
    return both._replace(angles=angles), resonant


def _folded(angle: Tensor) -> Tensor:
    """The same rotation by an angle in 0..pi: without an orientation a turn to the left is one to
    the right."""
    angle = angle.remainder(2 * math.pi)
    return torch.minimum(angle, 2 * math.pi - angle)


def checked_fraction(name: str, value: float, usual: float) -> None:
    if not 0 < value <= 1:
        raise LoopscopeError(
            f"{name} must be a fraction, above 0 and up to 1, but is {value!r}. Try {usual}."
        )


def trajectories(states: Any) -> tuple[Tensor, tuple[int, ...]]:
    """Any array of trajectories as a tensor (iteration, row, width), and the shape (...) that the
    rows had."""
    x = torch.as_tensor(states).detach()
    if x.is_complex() or x.dtype == torch.bool or x.ndim == 0 or not x.numel():
        raise LoopscopeError(
            "trajectories must be real numbers of the shape (iteration, ..., width), but they are "
            f"{tuple(x.shape)} of {x.dtype}. Stack the states along the first axis."
        )
    x = x if x.is_floating_point() else x.double()
    x = x[:, None] if x.ndim == 1 else x
    shape = tuple(x.shape[1:-1])
    return x.reshape(x.shape[0], math.prod(shape), x.shape[-1]), shape


def precision(states: Any) -> float:
    """The relative size of the last place of these numbers."""
    dtype = torch.as_tensor(states).dtype
    return torch.finfo(dtype).eps if dtype.is_floating_point else torch.finfo(torch.float64).eps


def sketched(x: Float[Tensor, "row iteration width"]) -> Float[Tensor, "row iteration narrow"]:
    """Wide trajectories in a few random orthonormal directions, the same for all; narrow ones as
    they are.

    Whatever turns in the width turns by the same angle in almost every projection of it.
    """
    width = x.shape[-1]
    if width <= MOST_WIDTH:
        return x
    generator = torch.Generator().manual_seed(width)
    directions = torch.linalg.qr(torch.randn(width, MOST_WIDTH, generator=generator, dtype=torch.float64)).Q
    return x @ directions.to(x)
