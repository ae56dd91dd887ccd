"""A looped net as someone would write it in PyTorch: two shared blocks, applied again and again."""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Attention and an MLP, each after a norm."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(*qkv.unbind(0), is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(-2))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class PlainLoop(nn.Module):
    """Tokens to logits. `core` is the loop's body, and `core.0` and `core.1` are its blocks."""

    def __init__(self, width: int, vocabulary: int = 32) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(vocabulary, width), nn.Linear(width, vocabulary)
        self.core = nn.Sequential(Block(width), Block(width))

    def forward(self, tokens: Tensor, turns: int = 32) -> Tensor:
        x = self.embed(tokens)
        for _ in range(turns):
            x = self.core(x)
        return self.head(x)


def plain_loop(width: int, batch: int = 8, positions: int = 32) -> tuple[PlainLoop, Tensor]:
    """The net with weights that are always the same, and tokens."""
    torch.manual_seed(0)
    return PlainLoop(width).eval(), torch.randint(0, 32, (batch, positions))
