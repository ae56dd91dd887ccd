"""The one-layer transformer in which grokking was taken apart, looped (Nanda et al. 2023, arXiv
2301.05217).

- What loops: one transformer block without any norm: attention with four heads, and a ReLU MLP four
  times as wide.
- What is injected: nothing, or the embedded tokens by addition in every iteration; the state then
  starts from zero, so that the first iteration reads the same in both cases.
- How it halts: after a fixed number of iterations. With one, and no injection, it is the paper's
  model.

What differs from the paper besides the loop: width 64 for 128, modulus 59 for 113 and half of the
pairs for training (see the recipe), so that two CPU cores watch it happen within minutes. Without
norms nothing bounds the stream: the loop is as stable as weight decay makes it.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.nn import Embedding, Injection, LoopedModule, Positions, Stack, checked_kinds
from loopscope.training import AdamW, Fixed, Recipe, Schedule


@dataclass(frozen=True)
class Config:
    """The shape."""

    vocabulary: int = 60
    """Tokens: the numbers and the sign of equality."""
    width: int = 64
    heads: int = 4
    iterations: int = 1
    injection: Literal["none", "add"] = "none"
    length: int = 3
    """The most positions."""


class Context(NamedTuple):
    injected: Tensor
    """(batch, position, width): tokens and positions, embedded."""
    positions: Positions


class Nanda(LoopedModule):
    """A block without norms, applied again and again. Causal: a position sees itself and what came
    before."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary)
        checked_kinds(config, "injection")
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
                if weight.ndim == 2:  # every map keeps the scale of what it reads
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
