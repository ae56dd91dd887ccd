"""PonderNet on a transformer: probabilistic halting (Banino, Balaguer & Blundell 2021, arXiv
2107.05407).

- What loops: one transformer block (in the paper an MLP or GRU).
- What is injected: the embedded tokens, by addition, in every iteration.
- How it halts: after every iteration a gate returns lambda, the probability of stopping now, at
  each position. The probability of stopping in iteration t is p_t = lambda_t prod_(j<t) (1 -
  lambda_j).
- How it is trained: `Exits(weight, prior)`, the expected loss over all exits plus KL(p || geometric
  prior). The direction matters: a widely copied implementation computes KL(prior || p).

Difference from the paper, which samples the iteration of stopping: here a position halts, and its
answer is frozen, after the first iteration at which the cumulative probability reaches `threshold`.
That is the median of the same distribution, and deterministic. `run.halting` has the distribution
up to the iteration in which the last position halts.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.arguments import Count, Finite, PositiveCount, Share
from loopscope.nn import (
    ExitGate,
    ExitGateModule,
    ExitState,
    Injection,
    Norm,
    PositionedEmbedding,
    Positions,
    Stack,
)
from loopscope.training import AdamW, Exits, Fixed, Recipe


@dataclass(frozen=True)
class Config:
    """The size of the model."""

    vocabulary: PositiveCount = 2
    width: PositiveCount = 64
    heads: PositiveCount = 4
    layers: PositiveCount = 1
    iterations: Count = 12
    """Largest number of iterations; the last gets the remaining probability."""
    norm: Norm = "stream"
    threshold: Share = 0.5
    """Of the cumulative probability of stopping; 0.5 gives the median."""
    bias: Finite = -1.5
    """Initial bias of the gate: sigmoid(-1.5) = 0.18, near the usual prior."""


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    injected: Tensor
    """(batch, position, width)"""
    positions: Positions


class Ponder(ExitGateModule):
    """A block that repeats until the gate halts it. There is no causal mask: the answer may be at
    any position."""

    kind, source = "PonderNet gate", "Banino, Balaguer & Blundell 2021, arXiv 2107.05407"

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary)
        self.config = config
        self.placed = PositionedEmbedding(config.vocabulary, config.width, config.heads, "rotary")
        self.injection = Injection("add", config.width)
        self.core_in = HookPoint()
        self.core = Stack(config.layers, config.width, config.heads, norm=config.norm)
        self.exit = ExitGate(config.width, config.threshold, config.bias)
        self.unembed = nn.Linear(config.width, config.vocabulary)
        self.setup()

    def encode(self, tokens: Tensor) -> Context:
        return Context(*self.placed(tokens))

    def initial(self, context: Context) -> ExitState:
        return self.exit.start(context.injected)

    def step(self, state: ExitState, context: Context, t: int) -> ExitState:
        h = self.core_in(self.injection(state.h, context.injected))
        return self.exit.update(state, self.core(h, context.positions))

    def decode(self, state: ExitState, context: Context) -> Tensor:
        return self.unembed(state.answer)


Model = Ponder

RECIPES = {
    "ponder-parity": Recipe(
        architecture="ponder",
        config={"vocabulary": 3, "width": 32, "heads": 2},
        task="parity-ones",
        options={"length": 12},
        batch=128,
        steps=2100,
        depth=Fixed(12),
        supervision=Exits(0.01, prior=0.2),
        optimiser=AdamW(lr=2e-3, warmup=200, decay=600, weight_decay=0.01),
    ),
}
