"""The rotation, with its harmonics, that describes an orbit best."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .sinusoids import SinusoidFit, fit_sinusoids, sinusoid_residual, spectral_peak

MAX_UNEXPLAINED = 0.7
"""Where one rotation leaves more than this fraction of the variance, neither harmonics nor a second
rotation can describe it."""
FULL_TURN = 0.98
"""Turns that must be observed."""


def fit_rotation(
    x: Float[Tensor, "row iteration width"],
) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"], Float[Tensor, " row"]]:
    """(angle, unexplained fraction of the variance, standard error of the angle) of the rotation
    that describes each orbit best, with harmonics where it has them.

    Arguments:
        x: about its mean.
    """
    m = x.shape[1]
    one = x.new_ones(1, 1)
    result = fit_sinusoids(x, spectral_peak(x)[:, None], one)
    angle, error = result.angles[:, 0].clone(), result.error[:, 0].clone()
    unexplained = result.unexplained.clone()
    harmonics = max(1, min(5, (m - 4) // 8))
    rest = ((unexplained > 1e-9) & (unexplained < MAX_UNEXPLAINED)).nonzero()[:, 0]
    if len(rest) and harmonics > 1:
        finer = _fit_with_harmonics(x[rest], angle[rest], harmonics)
        better = finer.unexplained < 0.5 * unexplained[rest]
        rows = rest[better]
        angle[rows], error[rows] = finer.angles[better, 0], finer.error[better, 0]
        unexplained[rows] = finer.unexplained[better]
    angle = fold_angle(angle)
    complete = angle >= 2 * math.pi / m * FULL_TURN
    return angle, torch.where(complete, unexplained, torch.ones_like(unexplained)), error


def _fit_with_harmonics(x: Tensor, angle: Tensor, harmonics: int) -> SinusoidFit:
    """A fundamental with its harmonics, begun from the strongest sinusoid's `angle` and what it may
    be a harmonic of."""
    one, turn = x.new_ones(1, 1), 2 * math.pi
    orders = torch.arange(1.0, harmonics + 1, dtype=x.dtype, device=x.device)[:, None]
    second = spectral_peak(sinusoid_residual(x, angle[:, None], one))
    # the fundamental may be weaker than a harmonic of it, or folded back at pi
    starts = [
        angle,
        angle / 2,
        angle / 3,
        (turn - angle) / 2,
        (turn - angle) / 3,
        (turn + angle) / 3,
        second,
        second / 2,
        (turn - second) / 2,
    ]
    tries = torch.stack(starts, dim=1).clamp(min=turn / x.shape[1])
    slow = [torch.full_like(angle, t == 0, dtype=torch.bool) for t in range(len(starts))]
    scores = torch.stack(
        [
            fit_sinusoids(x, t[:, None], orders, 0, slow=s).unexplained
            for t, s in zip(tries.unbind(1), slow, strict=True)
        ],
        dim=1,
    )
    scores[:, 0] *= 0.5  # the strongest sinusoid is the fundamental unless another is clearly better
    best = scores.argmin(1)
    return fit_sinusoids(x, tries.gather(1, best[:, None]), orders, slow=best == 0)


def fold_angle(angle: Tensor) -> Tensor:
    """The same rotation by an angle in 0..pi: without an orientation, turns to the left and to the
    right are the same."""
    angle = angle.remainder(2 * math.pi)
    return torch.minimum(angle, 2 * math.pi - angle)
