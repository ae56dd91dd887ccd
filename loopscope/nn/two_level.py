"""What models with two time scales share: two states, the network that updates one, their start,
and the head that says stop.

The hierarchical reasoning model (Wang et al. 2025, arXiv 2506.21734) has a network for each state,
the tiny recursive model (Jolicoeur-Martineau 2025, arXiv 2510.04871) one for both.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .stack import Stack


class Levels(NamedTuple):
    """The two states."""

    high: Float[Tensor, "batch position width"]
    """Updated once in an iteration; what the read-out reads."""
    low: Float[Tensor, "batch position width"]
    """Updated several times in an iteration."""


def level(layers: int, width: int, heads: int) -> Stack:
    """The network that updates a state: norms after each sub-layer, without gain, and gated MLPs.

    Weights start from a truncated normal of standard deviation 1 / sqrt(inputs): every linear map
    keeps the scale.
    """
    hidden = 8 * round(width / 3)  # two thirds of 4 * width: as many parameters as without the gate
    stack = Stack(layers, width, heads, norm="post", hidden=hidden, gain=False, gated=True)
    for part in stack.modules():
        if isinstance(part, nn.Linear):
            _drawn(part.weight, std=part.in_features**-0.5)
    return stack


class Start(nn.Module):
    """The states before the loop: truncated normal (standard deviation 1, cut at 2), never trained.

    `fixed`: one vector each, at all positions, kept with the weights. Else drawn anew for every
    position and every run (equilibrium reasoners, arXiv 2605.21488).
    """

    def __init__(self, width: int, fixed: bool = True) -> None:
        super().__init__()
        self.fixed = fixed
        if fixed:
            self.register_buffer("high", _drawn(torch.empty(width)))
            self.register_buffer("low", _drawn(torch.empty(width)))

    def forward(self, like: Float[Tensor, "batch position width"]) -> Levels:
        if not self.fixed:
            return Levels(_drawn(torch.empty_like(like)), _drawn(torch.empty_like(like)))
        high, low = (self.get_buffer(name).to(like.dtype).expand_as(like) for name in Levels._fields)
        return Levels(high, low)


class QHead(nn.Module):
    """Logits that judge a whole sequence by its state: is the answer right (halt), and will going
    on be worth it (continue).

    Reads the mean over the positions: the original reads the first position, a puzzle's own token,
    which boards here don't have. Starts at -5, whatever the state: nothing is right yet.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, -5.0)

    def forward(self, high: Float[Tensor, "batch position width"]) -> Float[Tensor, "batch output"]:
        return self.linear(high.mean(1))


@torch.no_grad()
def _drawn(empty: Tensor, std: float = 1.0) -> Tensor:
    return nn.init.trunc_normal_(empty, std=std, a=-2 * std, b=2 * std)
