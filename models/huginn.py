"""Huginn (Geiping et al. 2025, arXiv 2502.05171): prelude, looped core, coda, and a random first
state.

- What loops: the core's blocks, between a prelude that embeds the input once and a coda that reads
  the state out.
- What is injected: the prelude's output e, concatenated with the state, through a linear map
  without bias: W [h ; e].
- How it halts: after a given number of iterations. It is trained with a random number of iterations
  and the gradient of the last few, with the aim that the final state depends neither on the first
  state nor on the number of iterations (path independence).

    e  = prelude(sqrt(width) * embed(tokens))
    h0 ~ truncated normal of variance 2/5, independently at each position
    h <- core(W [h ; e])          blocks with norms on the residual stream: N(x + F(N(x)))
    logits = head(ln_f(coda(ln_f(h))))                       the same norm twice

The first state is drawn in `initial` with torch's global generator, so two calls differ unless it
is seeded, as `ls.record(seed=...)` does. Weights are initialised as in the paper
(`loopscope.nn.huginn_init`); `Config.start` has two other first states that its code offers.

Differences from the paper: no learned bias on queries and keys; the sizes; queries, keys and values
are initialised as one matrix.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.arguments import Count, Positive, PositiveCount
from loopscope.nn import (
    Embedding,
    Injection,
    LoopedModule,
    Positions,
    Stack,
    check_choices,
    random_state,
    truncated_init,
)
from loopscope.training import AdamW, Growing, Last, PoissonLogNormal, Recipe


@dataclass(frozen=True)
class Config:
    """The size of a Huginn model."""

    vocabulary: PositiveCount = 2
    """Number of tokens."""
    width: PositiveCount = 64
    """Width of the state at each position."""
    heads: PositiveCount = 4
    """Attention heads, each of width / heads."""
    layers: tuple[Count, Count, Count] = (1, 2, 1)
    """Blocks in (prelude, core, coda); the paper has (2, 4, 2)."""
    hidden: PositiveCount | None = None
    """Width of the gated MLPs; None for four times `width`."""
    iterations: Count = 16
    """Default number of iterations, and the depth by which the initial weights are scaled."""
    start: Literal["gaussian", "zero", "input"] = "gaussian"
    tied: bool = True
    """Whether the head is the embedding, as in the paper."""
    base: Positive = 50_000.0
    """Of the rotary angles."""


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    injected: Tensor
    """(batch, position, width): the prelude's output."""
    positions: Positions


class Huginn(LoopedModule):
    """A recurrent-depth language model. Causal: a position attends to itself and earlier ones."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary)
        check_choices(config, "start")
        self.config = config
        prelude, core, coda = config.layers
        options = {"norm": "stream", "hidden": config.hidden, "gated": True}
        self.embed = Embedding(config.vocabulary, config.width)
        self.prelude = Stack(prelude, config.width, config.heads, **options)
        self.injection = Injection("concat", config.width)
        self.core_in = HookPoint()
        self.core = Stack(core, config.width, config.heads, **options)
        self.coda = Stack(coda, config.width, config.heads, **options)
        self.ln_final = nn.RMSNorm(config.width)
        self.unembed = None if config.tied else nn.Linear(config.width, config.vocabulary, bias=False)
        truncated_init(self, config.width, prelude + core * config.iterations + coda)
        self.setup()

    def encode(self, tokens: Tensor) -> Context:
        e = math.sqrt(self.config.width) * self.embed(tokens)
        rotary = self.config.width // self.config.heads
        positions = Positions.of(e, causal=True, rotary=rotary, base=self.config.base)
        return Context(self.prelude(e, positions), positions)

    def initial(self, context: Context) -> Tensor:
        if self.config.start == "gaussian":
            return random_state(context.injected)
        return context.injected if self.config.start == "input" else torch.zeros_like(context.injected)

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        return self.core(self.core_in(self.injection(state, context.injected)), context.positions)

    def decode(self, state: Tensor, context: Context) -> Tensor:
        return self.logits_of(self.coda(self.ln_final(state), context.positions), context)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        h = self.ln_final(h)
        return h @ self.embed.table.weight.T if self.unembed is None else self.unembed(h)


Model = Huginn

RECIPES = {
    # Arrows as a list: the loop learns to look them up by position within 300 steps; with pairs it
    # hadn't learned anything by then.
    "huginn-hops": Recipe(
        architecture="huginn",
        config={"vocabulary": 38, "width": 64, "heads": 4, "layers": (1, 1, 1), "iterations": 12},
        task="hops",
        options={"nodes": 6, "hops": 4},
        steps=2000,
        batch=128,
        curriculum=Growing(start=1, steps=1200),
        depth=PoissonLogNormal(mean=6),
        gradient=Last(5),
        optimiser=AdamW(lr=2e-3, warmup=100, decay=600),
    ),
}
