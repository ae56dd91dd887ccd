"""Several blocks one after another."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from .block import Block
from .position import Positions


class Stack(nn.ModuleList):
    """`count` blocks with different weights, one after another; with 0 blocks, the identity.
    `options` are those of `Block`.

    Sites keep TransformerLens' names: `core.0.attn.hook_pattern` for a stack called `core`.
    """

    def __init__(self, count: int, width: int, heads: int, **options: Any) -> None:
        super().__init__(Block(width, heads, **options) for _ in range(count))

    def forward(
        self, x: Float[Tensor, "batch position width"], positions: Positions
    ) -> Float[Tensor, "batch position width"]:
        for block in self:
            x = block(x, positions)
        return x
