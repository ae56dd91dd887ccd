"""PonderNet on a transformer: learning when to stop by probabilities (Banino, Balaguer & Blundell
2021, arXiv 2107.05407).

- What loops: one transformer block (the paper's step is an MLP or GRU).
- What is injected: the embedded tokens, by addition, in every iteration.
- How it halts: after every iteration a gate gives the chance lambda of stopping now, position by
  position; the chances of stopping in iteration t are p_t = lambda_t prod_(j<t) (1 - lambda_j).
- How it is trained: `Exits(weight, prior)`, the expected loss over all exits plus KL(p || geometric
  prior). The direction matters: a widely copied implementation computes KL(prior || p).

What differs from the paper: it draws the iteration in which it stops. Here a position stops, and
its answer stands, after the first iteration by which the summed chance reaches `threshold`: the
median of the same distribution, and the same answer each time. `run.halting` has the distribution
up to where the last position has stopped.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.nn import ExitGate, Exiting, ExitState, Injection, Norm, Placed, Positions, Stack
from loopscope.training import AdamW, Exits, Fixed, Recipe


@dataclass(frozen=True)
class Config:
    """A pondering transformer's shape."""

    vocabulary: int = 2
    width: int = 64
    heads: int = 4
    layers: int = 1
    iterations: int = 12
    """The most iterations; what is left of the probability halts in the last."""
    norm: Norm = "stream"
    threshold: float = 0.5
    """Of the summed chance of stopping; 0.5 is the median."""
    bias: float = -1.5
    """Where the gate's bias starts: sigmoid(-1.5) = 0.18, near the usual prior."""


class Context(NamedTuple):
    injected: Tensor
    """(batch, position, width)"""
    positions: Positions


class Ponder(Exiting):
    """A block that is applied until the gate says stop. Every position sees every other: the answer
    may come first or last."""

    kind, source = "PonderNet gate", "Banino, Balaguer & Blundell 2021, arXiv 2107.05407"

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary)
        self.config = config
        self.placed = Placed(config.vocabulary, config.width, config.heads, "rotary")
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
