"""Fourier analysis of functions on pairs of numbers modulo p, for networks that add with waves.

A function of (a, b) is a tensor (p, p, ...) over all pairs. A network that adds modulo p by
trigonometry (Nanda et al. 2023, arXiv 2301.05217) has logits made of cos(w_k (a + b - c)), w_k = 2
pi k / p, for a few key frequencies k: over (a, b) only the two waves cos(w_k (a + b)) and sin(w_k
(a + b)) of each.
"""

import functools
import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.arguments import FINITE, Share
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from .precision import FLOOR, resolution


@functools.cache
def basis(p: int) -> Float[Tensor, "p p"]:
    """The orthonormal real Fourier basis of functions modulo p, a row each: the constant, cos 1,
    sin 1, cos 2, sin 2, ...

    For an even p the last row is cos(p / 2), which has no sine.
    """
    angles = 2 * math.pi * torch.arange(p, dtype=torch.float64) / p
    rows = [torch.ones(p, dtype=torch.float64)]
    for k in range(1, p // 2 + 1):
        rows += [torch.cos(k * angles), torch.sin(k * angles)][: 1 if 2 * k == p else 2]
    table = torch.stack(rows)
    return table / table.norm(dim=1, keepdim=True)


def components(table: Float[Tensor, "p width"]) -> Float[Tensor, " p"]:
    """Norm of each Fourier component of a table with a row per number, such as an embedding; in the
    order of `basis`."""
    return (basis(len(table)).to(table.device) @ table.double()).norm(dim=1)


@guarded
def gini(values: Annotated[Float[Tensor, "*axes n"], FINITE]) -> Float[Tensor, "*axes"]:
    """Gini coefficient of values that aren't negative: 0 where all are equal, (n - 1) / n where all
    but one are zero.

    >>> gini(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    tensor(0.7500, dtype=torch.float64)

    G = sum_i (2 i - n - 1) x_(i) / (n sum x), with x_(1) the smallest. NaN where all are 0.

    Raises:
        LoopscopeError: a negative value.
    """
    if bool((values < 0).any()):
        raise LoopscopeError("the Gini coefficient needs values that aren't negative. Pass norms or powers.")
    x = values.double().sort(dim=-1).values
    n = x.shape[-1]
    weights = 2 * torch.arange(1, n + 1, dtype=x.dtype, device=x.device) - n - 1
    return (weights * x).sum(-1) / (n * x.sum(-1))


class Power(NamedTuple):
    """Where the variance of a function of (a, b) lies, as fractions of it."""

    sums: Float[Tensor, " frequency"]
    """cos and sin of w_k (a + b), k = 1..p // 2."""
    differences: Float[Tensor, " frequency"]
    """cos and sin of w_k (a - b)."""
    single_number: Float[Tensor, " frequency"]
    """Waves that depend on a only or on b only."""
    total: float
    """The variance: mean over the pairs of the squared distance from the mean, summed over the
    other axes."""


@guarded
def power(values: Float[Tensor, "first second *rest"]) -> Power:
    """How the variance of a function of (a, b) is spread over waves of a + b, of a - b, and of one
    number alone.

    Products of waves of different frequencies are in none of the three, so the fractions need not
    sum to one. All are NaN where the function is constant.

    Arguments:
        values: over all pairs (a, b), (p, p, ...).

    Raises:
        LoopscopeError: another shape.
    """
    p = _checked(values)
    table = values.double().reshape(p, p, -1)
    total = float((table - table.mean((0, 1))).square().sum(2).mean())
    sums, differences = _by_frequency(_diagonal(table, 1)), _by_frequency(_diagonal(table, -1))
    single = _by_frequency(table.mean(0)) + _by_frequency(table.mean(1))
    if p % 2 == 0:
        differences[-1] = 0  # cos of p / 2 is the same wave in a + b and in a - b
    least = max(1e-12, FLOOR * resolution(values.dtype))  # rounding is no variance
    constant = total <= least**2 * float(table.square().sum(2).mean())
    scale = float("nan") if constant else total
    return Power(sums / scale, differences / scale, single / scale, 0.0 if constant else total)


def amplitudes(values: Float[Tensor, "p p *rest"]) -> Float[Tensor, " component"]:
    """Norm of each of the p² - 1 two-dimensional Fourier components of a function of (a, b) that
    aren't constant."""
    p = _checked(values)
    spectrum = torch.fft.fft2(values.double(), dim=(0, 1), norm="ortho")
    return spectrum.reshape(p * p, -1).abs().square().sum(1).sqrt()[1:]


@guarded
def key_frequencies(logits: Annotated[Float[Tensor, "p p c"], FINITE], least: Share = 0.05) -> list[int]:
    """The frequencies whose waves of a + b carry at least a fraction `least` of the power of all
    such waves.

    Nanda et al. (2023, arXiv 2301.05217) choose them by the MLP's neurons; logits exist in every
    network.
    """
    sums = power(logits).sums
    share = sums / sums.sum()
    return [k + 1 for k in range(len(share)) if float(share[k]) >= least]


@guarded
def along_sums(
    logits: Annotated[Float[Tensor, "p p c"], FINITE], frequencies: Sequence[int]
) -> Float[Tensor, "p p c"]:
    """The part of the logits made of cos and sin of w_k (a + b) for these frequencies: an
    orthogonal projection.

    Raises:
        LoopscopeError: a frequency outside 1..p // 2.
    """
    p = _checked(logits)
    for k in frequencies:
        if not 1 <= k <= p // 2:
            raise LoopscopeError(
                f"a frequency must lie in 1..{p // 2} for p = {p}, but is {k}. See key_frequencies."
            )
    waves = basis(p).to(logits.device)[[row for k in frequencies for row in (2 * k - 1, 2 * k) if row < p]]
    kept = waves.T @ (waves @ _diagonal(logits.double(), 1))  # functions of a + b: one row each
    return kept[_sums(p, logits.device)]


@guarded
def restricted_loss(logits: Annotated[Float[Tensor, "p p c"], FINITE], frequencies: Sequence[int]) -> float:
    """Cross-entropy (nats) over all pairs with only the waves of the key frequencies, and the mean
    logits added back (Nanda et al. 2023, arXiv 2301.05217).

    Falls when the circuit that adds has formed, even where the rest of the network hides it.
    """
    kept = along_sums(logits, frequencies) + logits.double().mean((0, 1))
    return F.cross_entropy(kept.flatten(0, 1), _sums(len(logits), logits.device).flatten()).item()


@guarded
def excluded_loss(
    logits: Annotated[Float[Tensor, "p p c"], FINITE], frequencies: Sequence[int], train: Bool[Tensor, "p p"]
) -> float:
    """Cross-entropy (nats) on the training pairs without the waves of the key frequencies (Nanda et
    al. 2023, arXiv 2301.05217).

    Low while the network answers from memory; rises when it comes to rely on these waves.
    """
    left = logits.double() - along_sums(logits, frequencies)
    return F.cross_entropy(left[train], _sums(len(logits), logits.device)[train]).item()


def _by_frequency(table: Float[Tensor, "p rest"]) -> Float[Tensor, " frequency"]:
    """The power of a function of one number at each frequency: mean over the numbers, summed over
    the rest."""
    p = len(table)
    power = (basis(p).to(table.device) @ table).square().sum(1)[1:] / p
    padded = torch.cat([power, power.new_zeros(len(power) % 2)])  # an even p has no sine at p / 2
    return padded.view(-1, 2).sum(1)


def _diagonal(table: Float[Tensor, "p p rest"], sign: int) -> Float[Tensor, "p rest"]:
    """Mean over all pairs with the same a + b (sign 1) or a - b (sign -1)."""
    p = len(table)
    a = torch.arange(p, device=table.device)
    return table[a[:, None], sign * (a - a[:, None]) % p].mean(0)


def _sums(p: int, device: torch.device) -> Int[Tensor, "p p"]:
    numbers = torch.arange(p, device=device)
    return (numbers[:, None] + numbers) % p


def _checked(values: Tensor) -> int:
    if values.ndim < 3 or values.shape[0] != values.shape[1] or len(values) < 3:
        raise LoopscopeError(
            "a function of pairs modulo p must have the shape (p, p, ...) with p of 3 or more, but has "
            f"{tuple(values.shape)}. Run the network on every pair, a first, and reshape."
        )
    return len(values)
