"""Parcae (2026, arXiv 2604.12946): a looped core whose linear part contracts by construction.

- What loops: the core's blocks, between a prelude and a coda.
- What is injected: the prelude's normalised output e, by a linear time-invariant system: A h + B e,
  with A diagonal and below 1 whatever the weights are (`loopscope.nn.lti`). Plain addition has A =
  1, and Huginn's concatenation is not bound at all.
- How it halts: after the number of iterations it is told; a random number of them in training.

    e  = N(prelude(embed(tokens)))
    h0 ~ truncated normal of variance 2/5, position by position (as Huginn's)
    h <- u + R(u)  with  u = A h + B e                       R: residual blocks, with a norm before each sub-layer
    logits = head(N(coda(C h)))                              C linear, without bias

The paper's text was not at hand. Unverified, and our reading of summaries and names: that delta is
learned per channel, that B is a matrix, where these begin, the blocks' norm (an option), and that
nothing is normed before the coda.

What differs: the number of iterations is drawn per batch here, per sequence in the paper; head and
embedding are not tied.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.nn import LTI, Embedding, LoopedModule, Norm, Positions, Stack, gaussian_start, truncated_init
from loopscope.training import Recipe


@dataclass(frozen=True)
class Config:
    """A Parcae's shape."""

    vocabulary: int = 2
    """Tokens."""
    width: int = 64
    """Numbers in a state, per position."""
    heads: int = 4
    """Attention heads; they share the width."""
    layers: tuple[int, int, int] = (1, 1, 1)
    """Blocks in (prelude, core, coda); the paper's smallest has (2, 2, 2)."""
    iterations: int = 8
    """Iterations when the caller doesn't say, and the depth by which the first weights are
    scaled."""
    delta: float = 0.5
    """Where the system's time step begins: A = exp(-delta)."""
    norm: Norm = "pre"
    """In the core. With "post" or "stream" the state is normalised as well, and u is no residual of
    it any more."""


class Context(NamedTuple):
    injected: Tensor
    """(batch, position, width): the prelude's output, normalised."""
    positions: Positions


class Parcae(LoopedModule):
    """A recurrent-depth language model with a stable injection. Causal: a position sees itself and
    what came before."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary)
        self.config = config
        before, loop, after = config.layers
        width, heads = config.width, config.heads
        self.embed = Embedding(config.vocabulary, width)
        self.prelude = Stack(before, width, heads, gated=True)
        self.ln_prelude = nn.RMSNorm(width)
        self.injection = LTI(width, config.delta)
        self.core_in = HookPoint()
        self.core = Stack(loop, width, heads, norm=config.norm, gated=True)
        self.c = nn.Linear(width, width, bias=False)
        self.coda = Stack(after, width, heads, gated=True)
        self.ln_final = nn.RMSNorm(width)
        self.unembed = nn.Linear(width, config.vocabulary, bias=False)
        truncated_init(self, width, before + loop * config.iterations + after)
        self.setup()

    def encode(self, tokens: Tensor) -> Context:
        x = self.embed(tokens)
        positions = Positions.of(x, causal=True, rotary=self.config.width // self.config.heads)
        return Context(self.ln_prelude(self.prelude(x, positions)), positions)

    def initial(self, context: Context) -> Tensor:
        return gaussian_start(context.injected)

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        u = self.core_in(self.injection(state, context.injected))
        return self.core(u, context.positions)

    def decode(self, state: Tensor, context: Context) -> Tensor:
        return super().logits_of(self.coda(self.c(state), context.positions), context)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        return super().logits_of(self.c(h), context)


Model = Parcae

RECIPES: dict[str, Recipe] = {}
