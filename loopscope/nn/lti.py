"""Injection by a linear time-invariant system that contracts for all weights."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LTI(nn.Module):
    """h <- A h + B e with A diagonal and 0 <= A < 1: a discretised leaky integrator (Parcae, arXiv
    2604.12946).

    A = exp(delta a) with a = -exp(log_a) and delta = exp(log_delta), one number each per channel; B
    = delta b with b a matrix. Without an input the state decays to zero; with plain addition, A =
    1, it would stay constant.

    Initial values: delta = `delta`, a = -1, b = 1, so that A = exp(-delta) in every channel.
    """

    def __init__(self, width: int, delta: float = 0.5) -> None:
        super().__init__()
        self.log_a = nn.Parameter(torch.zeros(width))
        self.log_delta = nn.Parameter(torch.full((width,), math.log(delta)))
        self.b = nn.Parameter(torch.eye(width))

    @property
    def decay(self) -> Float[Tensor, " width"]:
        """A's diagonal, whose largest entry is A's spectral radius. Clamped below 1, which rounding
        could reach."""
        decay = torch.exp(-torch.exp(self.log_a + self.log_delta))
        return decay.clamp(max=1 - torch.finfo(decay.dtype).eps)

    def forward(
        self, h: Float[Tensor, "batch position width"], e: Float[Tensor, "batch position width"]
    ) -> Float[Tensor, "batch position width"]:
        return self.decay * h + self.log_delta.exp() * (e @ self.b.T)
