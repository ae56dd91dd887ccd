"""Chaos or noise: whether states that are close to each other stay close."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

PREDICTION = 0.5
"""Neighbours predict a motion if their successors lie this much closer than chance, or more."""
SEPARATION = 0.05
"""Neighbours move apart if the logarithm of their distance grows by this much per iteration, or
more."""
_AHEAD, _EXCLUDED, _BUDGET = 4, 2, 1 << 22


def is_chaotic(
    x: Float[Tensor, "row iteration width"], unexplained: Float[Tensor, " row"]
) -> Bool[Tensor, " row"]:
    """Whether what a period leaves unexplained is deterministic chaos rather than noise.

    The nearest neighbour of each state is followed for a few iterations (Rosenstein, Collins & De
    Luca 1993). With noise the successors of neighbours are as far apart as expected by chance. In
    chaos they are close, and move apart exponentially.

    Arguments:
        unexplained: fraction of the variance that the period leaves.
    """
    rows, m, width = x.shape
    result = [
        _is_chaotic_chunk(y, u)
        for y, u in zip(*(t.split(max(1, _BUDGET // m**2)) for t in (x, unexplained)), strict=True)
    ]
    return torch.cat(result) if result else torch.zeros(rows, dtype=torch.bool, device=x.device)


def is_predictable(x: Float[Tensor, "row iteration width"]) -> Bool[Tensor, " row"]:
    """Whether neighbouring states have successors much closer than chance: a deterministic motion
    in few dimensions, regular or chaotic, and no noise.

    Arguments:
        x: about its mean.
    """
    m = x.shape[1]
    one = x.new_ones(1)
    parts = [_neighbours(y, one.expand(len(y)))[0] for y in x.split(max(1, _BUDGET // m**2))]
    return torch.cat(parts) < PREDICTION**2


def _is_chaotic_chunk(x: Tensor, unexplained: Tensor) -> Tensor:
    predicted, growth = _neighbours(x, unexplained)
    return (predicted < PREDICTION**2) & (growth > SEPARATION)


def _neighbours(x: Tensor, unexplained: Tensor) -> tuple[Tensor, Tensor]:
    """(mean square distance of the successors of neighbours over that by chance, the growth of the
    logarithm of the neighbours' distance per iteration)."""
    rows, m, _ = x.shape
    usable = m - _AHEAD
    square = x.square().sum(2)
    squared_distance = (square[:, :, None] + square[:, None] - 2 * x @ x.mT).clamp(min=0)  # (row, k, j)
    k = torch.arange(m, device=x.device)
    near = (k[:, None] - k).abs() < _EXCLUDED
    nearest = (
        squared_distance[:, :usable, :usable].masked_fill(near[:usable, :usable], math.inf).argmin(2)
    )  # (row, k)
    here = torch.arange(usable, device=x.device)
    variance = (x - x.mean(1, keepdim=True)).square().sum(2).mean(1)
    flat = squared_distance.flatten(1)
    gaps = [flat.gather(1, (here + s) * m + nearest + s).clamp(min=1e-300) for s in range(_AHEAD + 1)]
    # by chance two values of the noise differ by twice its variance
    predicted = gaps[1].mean(1) / (2 * unexplained * variance)
    floor = 1e-20 * variance[:, None]
    growth = (torch.maximum(gaps[-1], floor).log() - torch.maximum(gaps[0], floor).log()).mean(1) / (
        2 * _AHEAD
    )
    return predicted, growth
