"""Encodings of positions: sinusoids, rotary angles, and the causal mask."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor


class Positions(NamedTuple):
    """The inputs of attention that depend on positions; computed once per forward pass and read by
    every iteration."""

    mask: Bool[Tensor, "query key"] | None
    """True where a query may attend; None means everywhere."""
    cosine: Float[Tensor, "position half"] | None
    sine: Float[Tensor, "position half"] | None

    @staticmethod
    def of(like: Tensor, causal: bool = True, rotary: int = 0, base: float = 10_000.0) -> "Positions":
        """Positions 0..n-1 of a sequence.

        Arguments:
            like: (batch, position, width): determines length, device and dtype.
            causal: whether a position attends to earlier ones and itself only.
            rotary: width of a head for rotary positions (Su et al. 2021, arXiv 2104.09864), else 0.
            base: of the rotary angles.
        """
        length, device = like.shape[1], like.device
        mask = torch.ones(length, length, dtype=torch.bool, device=device).tril() if causal else None
        if not rotary:
            return Positions(mask, None, None)
        rates = base ** -(torch.arange(0, rotary, 2, device=device, dtype=torch.float32) / rotary)
        angles = torch.arange(length, device=device, dtype=torch.float32)[:, None] * rates
        return Positions(mask, angles.cos().to(like.dtype), angles.sin().to(like.dtype))


def rotate(
    x: Float[Tensor, "batch position head width"],
    cosine: Float[Tensor, "position half"],
    sine: Float[Tensor, "position half"],
) -> Float[Tensor, "batch position head width"]:
    """Rotate each pair (first half, second half) of `x` by its position's angles, so that products
    depend on relative positions."""
    first, second = x.chunk(2, dim=-1)
    cosine, sine = cosine[:, None], sine[:, None]
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def sinusoid(
    numbers: Shaped[Tensor, " n"], width: int, longest: float = 10_000.0
) -> Float[Tensor, "n width"]:
    """Sines and cosines of `numbers` at `width / 2` rates from 1 down to 1 / `longest` (Vaswani et
    al. 2017).

    The Universal Transformer uses it for positions and iterations alike (Dehghani et al. 2018,
    arXiv 1807.03819).
    """
    half = width // 2
    steps = torch.arange(half, device=numbers.device, dtype=torch.float32)
    rates = torch.exp(-math.log(longest) * steps / max(half - 1, 1))
    angles = numbers.to(torch.float32)[:, None] * rates
    code = torch.cat([angles.sin(), angles.cos()], dim=-1)
    return torch.nn.functional.pad(code, (0, width - 2 * half))
