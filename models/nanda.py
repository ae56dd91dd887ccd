"""The one-layer transformer of the mechanistic study of grokking, looped (Nanda et al. 2023, arXiv
2301.05217).

- What loops: one transformer block without norms: attention with four heads, and a ReLU MLP four
  times as wide.
- What is injected: nothing, or the embedded tokens by addition in every iteration. With injection
  the state starts from zero, so that the first iteration reads the same in both cases.
- How it halts: after a fixed number of iterations. With one iteration and no injection, it is the
  paper's model.

Differences from the paper besides the loop: width 64 for 128, modulus 59 for 113 and half of the
pairs for training (see the recipe), so that training takes minutes on two CPU cores. Without norms
the residual stream is unbounded: only weight decay keeps the loop stable.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.arguments import Count, PositiveCount
from loopscope.nn import Embedding, Injection, LoopedModule, Positions, Stack, check_choices
from loopscope.training import AdamW, Fixed, Recipe, Schedule


@dataclass(frozen=True)
class Config:
    """The size of the model."""

    vocabulary: PositiveCount = 60
    """Number of tokens: the numbers and the equals sign."""
    width: PositiveCount = 64
    heads: PositiveCount = 4
    iterations: Count = 1
    injection: Literal["none", "add"] = "none"
    length: PositiveCount = 3
    """Largest number of positions."""


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    injected: Tensor
    """(batch, position, width): tokens and positions, embedded."""
    positions: Positions


class Nanda(LoopedModule):
    """A looped block without norms. Causal: a position attends to itself and
    earlier ones."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary)
        check_choices(config, "injection")
        self.config = config
        self.embed = Embedding(config.vocabulary, config.width)
        self.place = nn.Parameter(
            nn.init.normal_(self.embed.table.weight.new_empty(config.length, config.width))
        )
        self.injection = Injection(config.injection, config.width)
        self.core_in = HookPoint()
        self.core = Stack(1, config.width, config.heads, norm="none", activation="relu")
        self.unembed = nn.Linear(config.width, config.vocabulary, bias=False)
        for part in (self.embed.table, self.core, self.unembed):
            for weight in part.parameters():
                if weight.ndim == 2:  # every map preserves the scale of its input
                    nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        nn.init.normal_(self.place, std=config.width**-0.5)
        self.setup()

    def encode(self, tokens: Tensor) -> Context:
        e = self.embed(tokens)
        return Context(e + self.place[: e.shape[1]], Positions.of(e, causal=True))

    def initial(self, context: Context) -> Tensor:
        return (
            context.injected
            if self.config.injection == "none"
            else context.injected.new_zeros(context.injected.shape)
        )

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        return self.core(self.core_in(self.injection(state, context.injected)), context.positions)

    def decode(self, state: Tensor, context: Context) -> Tensor:
        return self.unembed(state)


Model = Nanda

RECIPES = {
    "grokking-modular": Recipe(
        architecture="nanda",
        config={"vocabulary": 60, "iterations": 2},
        task="modular-addition",
        options={"modulus": 59, "share": 0.5},
        batch=None,
        steps=5000,
        depth=Fixed(2),
        history=Schedule(),
        optimiser=AdamW(lr=1e-3, warmup=10, decay=1000, weight_decay=1.0, clip=1e6),
    ),
}
