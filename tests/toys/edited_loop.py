"""A loop with everything that an edit can name: iterations that differ, an inner loop, positions,
heads, a logit of halting, an end before the last iteration."""

import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.nn import LoopedModule

N, TURNS, BATCH, POSITIONS, HEADS, WIDTH = 6, 3, 4, 5, 2, 6


class EditedLoop(LoopedModule):
    """Three turns of h <- 0.5 h + x + 0.1 turn + 0.3 t, mixed over positions, and then a gate.

    Channel 0 of the token's vector counts nothing: the loop ends early once `limit` iterations ran,
    as a model does whose positions have all halted.
    """

    def __init__(self, limit: int = 99) -> None:
        super().__init__(N, WIDTH)
        self.limit, self.ran = limit, 0
        self.before, self.hook_low, self.gate = HookPoint(), HookPoint(), HookPoint()
        self.attn = nn.Module()
        self.attn.hook_q, self.attn.hook_z, self.attn.hook_pattern = HookPoint(), HookPoint(), HookPoint()
        self.alias = self.attn.hook_z
        self.setup()

    @property
    def halting_unit(self) -> nn.Module:
        return self.gate

    def encode(self, tokens: Tensor) -> Tensor:
        self.ran = 0
        return self.before(torch.sin(tokens.double()[..., None] + torch.arange(WIDTH)))

    def initial(self, context: Tensor) -> Tensor:
        return context.cumsum(1)

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        self.ran += 1
        for turn in self.clock.loop("low", range(TURNS)):
            state = self.hook_low(0.5 * state + context + 0.1 * turn + 0.3 * t)
        z = self.attn.hook_z(self.attn.hook_q(state.unflatten(-1, (HEADS, -1))))
        scores = torch.einsum("bphw,bkhw->bhpk", z, z)
        pattern = self.attn.hook_pattern(torch.softmax(scores, -1))
        mixed = torch.einsum("bhpk,bkhw->bphw", pattern, z).flatten(-2)
        return mixed * torch.sigmoid(self.gate(mixed.sum(-1, keepdim=True)))

    def decode(self, state: Tensor, context: Tensor) -> Tensor:
        return state

    def finished(self, state: Tensor) -> bool:
        return self.ran >= self.limit


TOKENS = torch.arange(BATCH * POSITIONS).reshape(BATCH, POSITIONS)
SIZES = {"batch": BATCH, "position": POSITIONS, "head": HEADS, "width": WIDTH, "low": TURNS, "iteration": N}
"""Of each axis that an edit can select along."""
