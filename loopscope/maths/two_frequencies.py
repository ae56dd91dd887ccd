"""Motion with two independent frequencies: the two rotations that describe it best."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .harmonics import FULL_TURN, fold_angle
from .sinusoids import SinusoidFit, fit_sinusoids, sinusoid_residual, spectral_peak


def fit_two_rotations(
    x: Float[Tensor, "row iteration width"],
) -> tuple[SinusoidFit, Bool[Tensor, " row"]]:
    """(the two rotations that describe each motion best, whether they are resonant).

    Their sums and harmonics are among the sinusoids. They are resonant, and so one rotation after
    all, where small multiples of the two angles agree.

    Arguments:
        x: about its mean.
    """
    m = x.shape[1]
    one = x.new_ones(1, 1)
    first = fit_sinusoids(x, spectral_peak(x)[:, None], one).angles
    second = spectral_peak(sinusoid_residual(x, first, one))[:, None]
    pairs = [[1, 0], [0, 1], [2, 0], [0, 2], [1, 1], [1, -1]]
    both = fit_sinusoids(x, torch.cat([first, second], dim=1), x.new_tensor(pairs[:2]))
    if m >= 64 and bool((both.unexplained > 1e-6).any()):
        rich = fit_sinusoids(x, both.angles, x.new_tensor(pairs))
        finer = (rich.unexplained < 0.5 * both.unexplained) & (both.unexplained > 1e-6)
        both = SinusoidFit(
            *(torch.where(finer.view(-1, *[1] * (b.ndim - 1)), a, b) for a, b in zip(rich, both, strict=True))
        )
    small = torch.tensor(
        [[p, q] for p in range(1, 6) for q in range(-5, 6) if q], dtype=x.dtype, device=x.device
    )
    difference = (both.angles @ small.T).remainder(2 * math.pi)
    difference = torch.minimum(difference, 2 * math.pi - difference)
    resonant = (difference < 5 * both.error @ small.abs().T + 1e-9).any(1)
    angles = fold_angle(both.angles)
    turn = 2 * math.pi / m
    resonant |= (angles < FULL_TURN * turn).any(1) | ((angles[:, 0] - angles[:, 1]).abs() < 2 * turn)
    return both._replace(angles=angles), resonant
