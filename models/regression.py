"""A looped transformer that learns regression in context (Yang, Lee, Nowak & Papailiopoulos 2024,
arXiv 2311.12424).

- What loops: transformer blocks, with the position code and the final norm inside the loop, as
  published (GPT-2's `wpe` and `ln_f` are applied in every pass).
- What is injected: the projected input, by addition (or multiplication) in every iteration; the
  state starts from zeros (or ones). An iteration is z <- N(blocks(z + x + position)), a map that
  can express an optimiser's step.
- How it halts: after a given number of iterations.
- How it is trained: the mean loss of the last `b` iterations (`Every(b)` with `Last(b)`), without
  gradients in earlier ones, while the number of iterations grows (`Rising`).

The input is a vector at each position (the task `regression`: x and y alternate), and the answer
one number per position. Differences from the paper: width and depth, RMSNorm for LayerNorm, rotary
positions as an option.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.arguments import Count, PositiveCount
from loopscope.common.errors import LoopscopeError
from loopscope.nn import LoopedModule, Norm, Positions, Stack
from loopscope.training import AdamW, Every, Last, Recipe, Rising


@dataclass(frozen=True)
class Config:
    """The size of a looped regressor."""

    vocabulary: PositiveCount = 1
    """Numbers in an answer."""
    features: PositiveCount = 4
    """Numbers at a position of the input."""
    width: PositiveCount = 64
    heads: PositiveCount = 4
    layers: PositiveCount = 1
    iterations: Count = 12
    norm: Norm = "pre"
    injection: Literal["add", "multiply"] = "add"
    position: Literal["learned", "rotary"] = "learned"
    length: PositiveCount = 64
    """Largest number of positions, if they are learned."""


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    injected: Tensor
    """(batch, position, width): the projected input."""
    code: Tensor | None
    """(position, width): the learned position code, which every iteration adds."""
    positions: Positions


class Regression(LoopedModule):
    """Looped blocks that refine the answers. Causal: a prediction uses earlier points only."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary)
        self.config = config
        self.read_in = nn.Linear(config.features, config.width)
        self.hook_embed = HookPoint()
        self.place = (
            nn.Parameter(0.02 * torch.randn(config.length, config.width))
            if config.position == "learned"
            else None
        )
        self.core_in = HookPoint()
        self.core = Stack(config.layers, config.width, config.heads, norm=config.norm)
        self.ln_core = nn.RMSNorm(config.width)
        self.read_out = nn.Linear(config.width, config.vocabulary)
        self.setup()

    def encode(self, tokens: Tensor) -> Context:
        n = self.config.features
        if not tokens.is_floating_point() or tokens.ndim != 3 or tokens.shape[2] != n:
            raise LoopscopeError(
                f"the input must be floating-point numbers (batch, position, {n}), but is {tokens.dtype} "
                f"{tuple(tokens.shape)}. Use the tokens of the task `regression`."
            )
        e = self.hook_embed(self.read_in(tokens.to(self.read_in.weight.dtype)))
        if self.place is None:
            return Context(e, None, Positions.of(e, rotary=self.config.width // self.config.heads))
        if e.shape[1] > len(self.place):
            raise LoopscopeError(
                f"a model with learned positions must get at most {len(self.place)} of them, but got "
                f"{e.shape[1]}. "
                'Build it with a larger length, or with position="rotary".'
            )
        return Context(e, self.place[: e.shape[1]], Positions.of(e))

    def initial(self, context: Context) -> Tensor:
        z = torch.zeros_like(context.injected)
        return z if self.config.injection == "add" else z + 1

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        x = context.injected
        z = state + x if self.config.injection == "add" else state * x
        z = self.core_in(z if context.code is None else z + context.code)
        return self.ln_core(self.core(z, context.positions))

    def decode(self, state: Tensor, context: Context) -> Tensor:
        return self.read_out(state)


Model = Regression

RECIPES = {
    "regression-linear": Recipe(
        architecture="regression",
        config={"features": 4, "iterations": 12, "length": 32},
        task="regression",
        options={"dimensions": 4, "points": 12},
        batch=64,
        steps=4000,
        depth=Rising(5, 12, steps=2000),
        gradient=Last(5),
        supervision=Every(5),
        optimiser=AdamW(lr=1e-3, warmup=200, decay=1500, weight_decay=0.0),
    ),
}
