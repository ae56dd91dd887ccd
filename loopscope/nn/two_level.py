"""Parts of models with two time scales: the two states, the network that updates one, the initial
states, and the Q-head.

The hierarchical reasoning model (Wang et al. 2025, arXiv 2506.21734) has a network for each state,
the tiny recursive model (Jolicoeur-Martineau 2025, arXiv 2510.04871) one for both.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .stack import Stack


class TwoLevelState(NamedTuple):
    """The two states of a model with two time scales."""

    high: Float[Tensor, "batch position width"]
    """Updated once in an iteration; what the read-out reads."""
    low: Float[Tensor, "batch position width"]
    """Updated several times in an iteration."""


def level_network(layers: int, width: int, heads: int) -> Stack:
    """The network that updates a state: norms after each sub-layer, without gain, and gated MLPs.

    Weights are drawn from a truncated normal distribution of standard deviation 1 / sqrt(inputs),
    so that every linear map preserves the scale.
    """
    hidden = 8 * round(width / 3)  # two thirds of 4 * width: as many parameters as without the gate
    stack = Stack(layers, width, heads, norm="post", hidden=hidden, gain=False, gated=True)
    for part in stack.modules():
        if isinstance(part, nn.Linear):
            _fill_truncated_normal(part.weight, std=part.in_features**-0.5)
    return stack


class InitialStates(nn.Module):
    """The states before the loop: truncated normal (standard deviation 1, truncated at 2), not
    trained.

    `fixed`: one vector per state for all positions, saved with the weights. Otherwise each position
    of each run has its own random vector (equilibrium reasoners, arXiv 2605.21488).
    """

    def __init__(self, width: int, fixed: bool = True) -> None:
        super().__init__()
        self.fixed = fixed
        if fixed:
            self.register_buffer("high", _fill_truncated_normal(torch.empty(width)))
            self.register_buffer("low", _fill_truncated_normal(torch.empty(width)))

    def forward(self, like: Float[Tensor, "batch position width"]) -> TwoLevelState:
        if not self.fixed:
            return TwoLevelState(
                _fill_truncated_normal(torch.empty_like(like)), _fill_truncated_normal(torch.empty_like(like))
            )
        high, low = (self.get_buffer(name).to(like.dtype).expand_as(like) for name in TwoLevelState._fields)
        return TwoLevelState(high, low)


class QHead(nn.Module):
    """Logits for a whole sequence from its state: whether the answer is right (halt), and the value
    of continuing (continue).

    Reads the mean over positions. The original reads the first position, a token of the puzzle,
    which boards here don't have. Initially -5 for every state: no answer is right yet.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, -5.0)

    def forward(self, high: Float[Tensor, "batch position width"]) -> Float[Tensor, "batch output"]:
        return self.linear(high.mean(1))


@torch.no_grad()
def _fill_truncated_normal(empty: Tensor, std: float = 1.0) -> Tensor:
    return nn.init.trunc_normal_(empty, std=std, a=-2 * std, b=2 * std)
