"""A random transformer block as a loop, causal or not, of any size and fate."""

from typing import Literal

import torch
from torch import Tensor, nn

from loopscope.nn import Block, LoopedModule, Positions

Fate = Literal["settles", "crowded", "grows", "turns"]


class BlockLoop(LoopedModule):
    """x -> c + turn(decay (x - c)) + gain F(x + e), where F is a block's update and e the input.

    settles: one direction leads, and shrinks by 0.9. crowded: many eigenvalues at the edge, about
    0.9. turns: a plane is turned by 1 radian and kept. grows: by 1.05 per iteration.
    """

    def __init__(self, fate: Fate, width: int, *, causal: bool, heads: int = 4, gain: float = 0.15) -> None:
        super().__init__(iterations=8, vocabulary=16)
        self.causal, self.fate, self.gain = causal, fate, gain
        torch.manual_seed(0)
        self.embed = nn.Embedding(16, width)
        self.block = Block(width, heads, "pre", hidden=4 * width)
        self.unembed = nn.Linear(width, 16)
        basis = torch.linalg.qr(torch.randn(width, width)).Q
        core = 0.3 * torch.eye(width)
        if fate == "settles":
            core[0, 0] = 0.9
        elif fate == "crowded":
            core = 0.8 * torch.linalg.qr(torch.randn(width, width)).Q
        elif fate == "turns":
            c, s = torch.tensor(1.0).cos(), torch.tensor(1.0).sin()
            core[:2, :2] = torch.stack([torch.stack([c, -s]), torch.stack([s, c])])
        else:
            core[0, 0] = 1.05
        self.linear = nn.Parameter(basis @ core @ basis.T)
        self.setup()

    def encode(self, tokens: Tensor) -> tuple[Tensor, Positions]:
        e = self.embed(tokens)
        return e, Positions.of(e, causal=self.causal)

    def initial(self, context: tuple[Tensor, Positions]) -> Tensor:
        return context[0]

    def step(self, state: Tensor, context: tuple[Tensor, Positions], t: int) -> Tensor:
        e, positions = context
        h = state + e
        return state @ self.linear.T + self.gain * (self.block(h, positions) - h)

    def decode(self, state: Tensor, context: tuple[Tensor, Positions]) -> Tensor:
        return self.unembed(state)
