"""A moving average of the weights, which is evaluated and exported in their place."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .validation import check_range


@dataclass(frozen=True)
class Average:
    """a <- d a + (1 - d) w after every step, with d rising to `decay`: d = min(decay, (1 + n) / (10
    + n)) in step n.

    Polyak & Juditsky 1992; the warm-up limits the influence of the first weights.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        check_range("Average.decay", self.decay, 0, 1)

    def start(self, model: nn.Module) -> dict[str, Tensor]:
        """The average before the first step: the weights themselves."""
        return {name: value.detach().clone() for name, value in model.named_parameters()}

    @torch.no_grad()
    def update(self, average: dict[str, Tensor], model: nn.Module, step: int) -> None:
        """Update the average with the weights after optimiser step `step` (0-based)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.named_parameters():
            average[name].lerp_(value.detach().to(average[name].device), 1 - decay)

    @staticmethod
    @torch.no_grad()
    def put(average: dict[str, Tensor], model: nn.Module) -> None:
        """Replace the model's weights by their average."""
        for name, value in model.named_parameters():
            value.copy_(average[name])
