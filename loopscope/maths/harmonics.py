"""The rotation, with its harmonics, that describes an orbit best."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .sinusoids import fit_sinusoids, sinusoid_residual, spectral_peak

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
    angle, unexplained, error = (
        result.angles[:, 0].clone(),
        result.unexplained.clone(),
        result.error[:, 0].clone(),
    )
    harmonics = max(1, min(5, (m - 4) // 8))
    many = torch.arange(1.0, harmonics + 1, dtype=x.dtype, device=x.device)[:, None]
    rest = ((unexplained > 1e-9) & (unexplained < MAX_UNEXPLAINED)).nonzero()[:, 0]
    if len(rest) and harmonics > 1:
        y, w = x[rest], angle[rest]
        other = spectral_peak(sinusoid_residual(y, w[:, None], one))
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
                fit_sinusoids(y, t[:, None], many, 0, slow=s).unexplained
                for t, s in zip(tries.unbind(1), slow, strict=True)
            ],
            dim=1,
        )
        scores[:, 0] *= 0.5  # the strongest tone is the fundamental unless another is clearly better
        best = scores.argmin(1)
        finer = fit_sinusoids(y, tries.gather(1, best[:, None]), many, slow=best == 0)
        real = finer.unexplained < 0.5 * unexplained[rest]
        rows = rest[real]
        angle[rows], unexplained[rows], error[rows] = (
            finer.angles[real, 0],
            finer.unexplained[real],
            finer.error[real, 0],
        )
    angle = fold_angle(angle)
    return (
        angle,
        torch.where(angle < 2 * math.pi / m * FULL_TURN, torch.ones_like(unexplained), unexplained),
        error,
    )


def fold_angle(angle: Tensor) -> Tensor:
    """The same rotation by an angle in 0..pi: without an orientation, turns to the left and to the
    right are the same."""
    angle = angle.remainder(2 * math.pi)
    return torch.minimum(angle, 2 * math.pi - angle)
