"""A looped GPT-2 block that learns to compose facts (Kohli et al. 2026, arXiv 2604.07822).

- What loops: one or a few causal transformer blocks with norms before the sub-layers.
- What is injected: nothing; the input enters as states[0].
- How it halts: after a fixed number of iterations.
- How it is initialised: the output maps of attention and MLP are zero, so the loop starts as the
  identity; with the usual initialisation the paper found training unstable. The unembedding is the
  embedding's own table, so the next iteration can read an answer as it reads the input.

Differences from the paper: RMSNorm for LayerNorm; rotary positions (the paper: learned ones for two
hops, none for more), with which attending one position back is the same at every position; width 96
for 768.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.arguments import Count, PositiveCount
from loopscope.nn import Block, Embedding, LoopedModule, Positions, Stack
from loopscope.training import AdamW, Alternating, PerLength, Recipe, Schedule


@dataclass(frozen=True)
class Config:
    """The size of the model."""

    vocabulary: PositiveCount = 61
    width: PositiveCount = 96
    heads: PositiveCount = 4
    layers: PositiveCount = 1
    """Blocks in the loop."""
    iterations: Count = 2


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    embedded: Tensor
    """(batch, position, width)"""
    positions: Positions


class Kohli(LoopedModule):
    """Causal blocks that start as the identity, and a tied read-out."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary)
        self.config = config
        self.embed = Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.embed.table.weight, std=0.02)
        self.core_in = HookPoint()
        self.core = Stack(config.layers, config.width, config.heads, norm="pre")
        for block in self.core:
            assert isinstance(block, Block)
            nn.init.zeros_(block.attn.out.weight)
            nn.init.zeros_(block.mlp.down.weight)
            nn.init.zeros_(block.mlp.down.bias)
        self.ln_final = nn.RMSNorm(config.width)
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

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        return self.ln_final(h) @ self.embed.table.weight.T


Model = Kohli

RECIPES = {
    # One iteration for a fact, two for a composition: with two for both, a fact may be recalled in
    # the second only, too late to compose it. See the card.
    "grokking-hops": Recipe(
        architecture="kohli",
        config={"vocabulary": 61},
        task="composition",
        options={"entities": 40, "relations": 20, "share": 0.4},
        batch=384,
        steps=5000,
        curriculum=Alternating(1),
        depth=PerLength(1, 1),
        history=Schedule(checkpoints=8),
        optimiser=AdamW(lr=5e-4, warmup=200, decay=1500, weight_decay=1.0),
    ),
}
