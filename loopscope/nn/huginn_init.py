"""The initial weights and random first states of Huginn's family.

Geiping et al. 2025, arXiv 2502.05171: a normal distribution truncated at three standard deviations,
with variance 2 / (5 width) for weights and 2 / 5 for states. Truncation leaves 0.9733 of the
variance.
"""

import math

import torch
from torch import Tensor, nn

TRUNCATION = 3.0
STATE_STD = math.sqrt(2 / 5)
"""Standard deviation of a random state, before truncation."""


def fill_truncated_normal(x: Tensor, std: float) -> Tensor:
    """Fill `x` from a normal distribution truncated at three standard deviations, with torch's
    global generator."""
    return nn.init.trunc_normal_(x, std=std, a=-TRUNCATION * std, b=TRUNCATION * std)


def random_state(like: Tensor) -> Tensor:
    """A random state of the shape of `like` (batch, position, width), with independent entries.

    Drawn with torch's global generator, which training and `ls.record(seed=...)` seed.
    """
    return fill_truncated_normal(torch.empty_like(like, requires_grad=False), STATE_STD)


@torch.no_grad()
def truncated_init(model: nn.Module, width: int, depth: int) -> None:
    """Initialise a model's weights: standard deviation sqrt(2 / (5 width)), divided by sqrt(2
    depth) for maps whose output is added to the residual stream.

    Arguments:
        depth: the number of blocks that an input passes, counting each iteration of the core.
    """
    std = math.sqrt(2 / (5 * width))
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            residual = name.endswith((".attn.out", ".mlp.down"))
            fill_truncated_normal(part.weight, std / math.sqrt(2 * depth) if residual else std)
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)
