"""The period of a trajectory: a whole number of iterations, or a rotation by an angle that never
closes.

>>> import torch, loopscope.maths as maths
>>> k = torch.arange(128) * 0.7                       # a rotation by 0.7 radians
>>> result = maths.period(torch.stack([k.cos(), k.sin()], dim=1))
>>> result.period, result.angle, result.whole
(tensor(8.9760, dtype=torch.float64), tensor(0.7000, dtype=torch.float64), tensor(False))
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..common.arguments import Numbers, PositiveCount
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from .precision import precision, state_scale
from .returns import COHERENCE, Returns, fit_returns
from .trajectory_array import trajectories
from .trajectory_precision import trajectory_precision

WINDOW = 0.5
"""Fraction of the trajectory, from its end, that is used: the rest may be a transient."""


@dataclass(frozen=True)
class Period:
    """The periods of trajectories. Shapes (...): those of the trajectories without iteration and
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
    """Fraction of the variance in the window that the best period explains, 0..1; also where that
    is too little for a period."""
    second: Float[Tensor, "..."]
    """The second angle of a motion with two independent frequencies, radians per iteration (`angle`
    is the first); else NaN."""
    winding: Float[Tensor, "..."]
    """Fraction of the variance that two independent angles explain; NaN where one explains it as
    well."""
    erratic: Bool[Tensor, "..."]
    """Whether the motion that the period leaves unexplained is chaos rather than noise. Then there
    is no period."""
    resolved: Bool[Tensor, "..."]
    """Whether the precision of the numbers can tell: rest from slow motion, and a return from one
    that rounding causes. Where it can't there is no period."""


@guarded
def period(
    states: Numbers, *, window: float = WINDOW, coherence: float = COHERENCE, chunk: PositiveCount = 2048
) -> Period:
    """The period and the rotation angle of each trajectory.

    A whole period p is the smallest with e(p) = mean ‖x_(k+p) - x_k‖² / 2 Var x at most 1 -
    coherence and at most twice the least e. It must also close: where x_(k+jp) moves away with j,
    as a sinusoid of another angle does, the orbit is a rotation that never closes, and its angle is
    fitted by least squares together with its harmonics (`loopscope.maths.sinusoids`). Harmonics,
    including aliased ones, are distinguished from a second, independent frequency. Chaos that
    visits bands in turn looks like a noisy period; it is recognised by neighbouring states, which
    predict each other and yet move apart (`loopscope.maths.neighbour_divergence`).

    >>> period(torch.tensor([[0.0], [1.0], [3.0]]).repeat(8, 1)).period
    tensor(3., dtype=torch.float64)

    Arguments:
        states: (iteration, ..., width), or (iteration,) for numbers; any real dtype, a tensor or an
            array, of the dtype that they were computed in.
        window: fraction of the trajectory, from its end, that is used; where it shows no
            period, all of it is used.
        coherence: fraction of the variance that a period must explain.
        chunk: trajectories that are computed at once.

    Raises:
        LoopscopeError: fewer than eight states, or a window or coherence outside (0, 1].
    """
    x, shape = trajectories(states)
    _check_fraction("window", window, 0.5)
    _check_fraction("coherence", coherence, COHERENCE)
    eps, size, last = precision(states), max(1, chunk), x[-1].double()
    others = state_scale(last, torch.zeros_like(last[:, 0]), eps)
    parts, resolved = [], []
    for part, scale in zip(x.split(size, dim=1), others.split(size), strict=True):
        rows = part.double().transpose(0, 1)
        returns = fit_returns(rows, window, eps)
        certain = trajectory_precision(rows, returns.whole, torch.zeros_like(scale), eps, scale)
        several = torch.where(returns.whole > 1, certain.cycle, certain.fine)
        parts.append(returns)
        resolved.append(torch.where(returns.whole == 1, certain.rest, several))
    whole = Returns(*(torch.cat(column).reshape(shape) for column in zip(*parts, strict=True)))
    return apply_coherence(whole, coherence, torch.cat(resolved).reshape(shape))


def apply_coherence(result: Returns, coherence: float, resolved: Bool[Tensor, "..."] | None = None) -> Period:
    """The periods that explain at least the fraction `coherence` of the variance.

    Arguments:
        resolved: where the precision of the numbers can tell a period; None: everywhere.
    """
    resolved = torch.ones_like(result.erratic) if resolved is None else resolved
    torus = (result.winding >= coherence) & ~result.erratic & resolved
    orbit = (result.quality >= coherence) & ~result.erratic & resolved & ~torus
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
        resolved=resolved,
    )


def _check_fraction(name: str, value: float, usual: float) -> None:
    if not 0 < value <= 1:
        raise LoopscopeError(
            f"{name} must be a fraction, above 0 and up to 1, but is {value!r}. Try {usual}."
        )
