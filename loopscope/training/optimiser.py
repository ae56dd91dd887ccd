"""The optimiser's settings, and the learning rate of each step."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from .validation import check_count, check_range


@dataclass(frozen=True)
class AdamW:
    """AdamW (Loshchilov & Hutter 2017, arXiv 1711.05101) with a clipped gradient and a trapezoidal
    learning rate."""

    lr: float = 1e-3
    warmup: int = 100
    """Steps over which the rate rises from 0."""
    decay: int = 0
    """Steps at the end over which the rate falls to a fiftieth."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    """Largest norm of the gradient, over all weights."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))  # a list, when it comes out of JSON
        check_range("AdamW.lr", self.lr, 0, 10)
        check_range("AdamW.weight_decay", self.weight_decay, 0, 100)
        check_range("AdamW.clip", self.clip, 0, 1e6)
        check_count("AdamW.warmup", self.warmup)
        check_count("AdamW.decay", self.decay)

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
        """The optimiser of these parameters."""
        return torch.optim.AdamW(parameters, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate in step `step` (0-based) of `steps`."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        fall = max(0.02, min(1.0, (steps - step) / (self.decay + 1)))
        return self.lr * min(rise, fall)
