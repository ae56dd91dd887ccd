"""Truncated normal numbers: how Huginn's family begins its weights and its states.

Geiping et al. 2025, arXiv 2502.05171: normal numbers cut off at three standard deviations, with
variance 2 / (5 width) for weights and 2 / 5 for states. The cut leaves 0.9733 of the variance.
"""

import math

import torch
from torch import Tensor, nn

CUT = 3.0
STATE = math.sqrt(2 / 5)
"""Standard deviation of a random state, before the cut."""


def truncated(x: Tensor, std: float) -> Tensor:
    """Fill `x` with normal numbers of standard deviation `std`, cut off at three of them, from
    torch's global generator."""
    return nn.init.trunc_normal_(x, std=std, a=-CUT * std, b=CUT * std)


def gaussian_start(like: Tensor) -> Tensor:
    """A random state of the shape of `like` (batch, position, width): each number for itself, of
    scale `STATE`.

    Drawn from torch's global generator: training and `ls.record(seed=...)` seed it.
    """
    return truncated(torch.empty_like(like, requires_grad=False), STATE)


@torch.no_grad()
def truncated_init(model: nn.Module, width: int, depth: int) -> None:
    """Draw a model's weights: std sqrt(2 / (5 width)); 1 / sqrt(2 depth) of it for what is added to
    the stream.

    Arguments:
        depth: blocks that an input passes, each iteration of the core counted.
    """
    std = math.sqrt(2 / (5 * width))
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            added = name.endswith((".attn.out", ".mlp.down"))
            truncated(part.weight, std / math.sqrt(2 * depth) if added else std)
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)
