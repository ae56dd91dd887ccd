"""A feed-forward stack of transformer blocks: every layer has its own weights and runs once.

- What loops: nothing. The one iteration of this model is the whole stack, so states[0] is the
  embedded input and states[1] is what the read-out reads. More iterations would repeat the stack.
- What is injected: nothing; the residual stream starts as the embedding.
- How it halts: after one iteration.

It is the model to try synthetic loops on: `ls.wrap(model, body="core.2:5", repeat=4)` repeats
layers 2, 3 and 4 of it, without training (Chen et al. 2026, arXiv 2605.23872). The blocks have
norms before the sub-layers, as that paper supposes: each adds a small step to the residual stream.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.arguments import Count, PositiveCount
from loopscope.nn import Embedding, LoopedModule, Positions, Stack
from loopscope.training import AdamW, Fixed, Growing, Recipe


@dataclass(frozen=True)
class Config:
    """The size of the model."""

    vocabulary: PositiveCount = 38
    width: PositiveCount = 64
    heads: PositiveCount = 4
    layers: PositiveCount = 8
    """Blocks, each with its own weights."""
    iterations: Count = 1
    """How often the whole stack runs."""


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    embedded: Tensor
    """(batch, position, width)"""
    positions: Positions


class FeedForward(LoopedModule):
    """Causal blocks with norms before their sub-layers, one after another."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary)
        self.config = config
        self.embed = Embedding(config.vocabulary, config.width)
        self.core_in = HookPoint()
        self.core = Stack(config.layers, config.width, config.heads, norm="pre")
        self.ln_final = nn.RMSNorm(config.width)
        self.unembed = nn.Linear(config.width, config.vocabulary, bias=False)
        self.setup()

    def encode(self, tokens: Tensor) -> Context:
        e = self.embed(tokens)
        return Context(e, Positions.of(e, causal=True, rotary=self.config.width // self.config.heads))

    def initial(self, context: Context) -> Tensor:
        return context.embedded

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        return self.core(self.core_in(state), context.positions)

    def decode(self, state: Tensor, context: Context) -> Tensor:
        return self.logits_of(state, context)


Model = FeedForward

RECIPES = {
    # The task and the batch of huginn-hops, at half its rate: eight blocks are deeper than its
    # three.
    "stack-hops": Recipe(
        architecture="stack",
        config={"vocabulary": 38, "width": 64, "heads": 4, "layers": 8},
        task="hops",
        options={"nodes": 6, "hops": 4},
        steps=3000,
        batch=128,
        curriculum=Growing(start=1, steps=900),
        depth=Fixed(1),
        optimiser=AdamW(lr=1e-3, warmup=100, decay=800),
    ),
}
