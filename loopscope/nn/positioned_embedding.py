"""The embedding of tokens and positions for models without a causal mask, such as those for
boards."""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..common.errors import LoopscopeError, nearest
from .embedding import Embedding
from .position import Positions

PositionKind = Literal["learned", "rotary"]
"""learned: one vector per position, (token + position) / sqrt(2). rotary: angles in attention, for
sequences of any length."""


class PositionedEmbedding(nn.Module):
    """Embedded tokens with unit variance, and the `Positions` for attention without a mask."""

    def __init__(
        self, vocabulary: int, width: int, heads: int, position: PositionKind = "learned", length: int = 81
    ) -> None:
        """
        Arguments:
            position: how positions are encoded.
            length: the largest number of positions, if they are learned.
        """
        super().__init__()
        if position not in get_args(PositionKind):
            raise LoopscopeError(
                f"position must be one of its options, but is {position!r}. "
                f"{nearest(str(position), get_args(PositionKind))}"
            )
        self.embed = Embedding(vocabulary, width)
        self.rotary = width // heads if position == "rotary" else 0
        self.place = nn.Parameter(torch.randn(length, width)) if position == "learned" else None

    def forward(
        self, tokens: Int[Tensor, "batch position"]
    ) -> tuple[Float[Tensor, "batch position width"], Positions]:
        x = self.embed(tokens)
        if self.place is not None:
            if x.shape[1] > len(self.place):
                raise LoopscopeError(
                    f"a model with learned positions must get at most {len(self.place)} of them, but got "
                    f"{x.shape[1]}. "
                    'Build it with a larger length, or with position="rotary".'
                )
            x = (x + self.place[: x.shape[1]]) / math.sqrt(2)
        return x, Positions.of(x, causal=False, rotary=self.rotary)
