"""Parcae (2026, arXiv 2604.12946): a looped core whose linear part contracts by construction.

- What loops: the core's blocks, between a prelude and a coda.
- What is injected: the prelude's normalised output e, by a linear time-invariant system, A h + B e,
  with A diagonal and below 1 for all weights (`loopscope.nn.lti`). Addition has A = 1, and Huginn's
  concatenation has no bound.
- How it halts: after a given number of iterations; in training their number is random.

    e  = N(prelude(embed(tokens)))
    h0 ~ truncated normal of variance 2/5, independently at each position (as in Huginn)
    h <- u + R(u)  with  u = A h + B e       R: residual blocks, with a norm before each sub-layer
    logits = head(N(coda(C h)))              C linear, without bias

The paper's text was not available. Not verified, but our reading of summaries and names: that delta
is learned per channel, that B is a matrix, their initial values, the blocks' norm (an option), and
that there is no norm before the coda.

Differences from the paper: the number of iterations is drawn per batch, in the paper per sequence;
head and embedding are not tied.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.arguments import Count, Positive, PositiveCount
from loopscope.nn import LTI, Embedding, LoopedModule, Norm, Positions, Stack, random_state, truncated_init
from loopscope.training import Recipe


@dataclass(frozen=True)
class Config:
    """The size of a Parcae model."""

    vocabulary: PositiveCount = 2
    """Number of tokens."""
    width: PositiveCount = 64
    """Width of the state at each position."""
    heads: PositiveCount = 4
    """Attention heads, each of width / heads."""
    layers: tuple[Count, Count, Count] = (1, 1, 1)
    """Blocks in (prelude, core, coda); the paper's smallest has (2, 2, 2)."""
    iterations: Count = 8
    """Default number of iterations, and the depth by which the initial weights are scaled."""
    delta: Positive = 0.5
    """Initial time step of the system: A = exp(-delta)."""
    norm: Norm = "pre"
    """In the core. With "post" or "stream" the state is normalised as well, so that h - R(u) is no
    longer u."""


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    injected: Tensor
    """(batch, position, width): the prelude's output, normalised."""
    positions: Positions


class Parcae(LoopedModule):
    """A recurrent-depth language model with a stable injection. Causal: a position attends to
    itself and earlier ones."""

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
        return random_state(context.injected)

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        u = self.core_in(self.injection(state, context.injected))
        return self.core(u, context.positions)

    def decode(self, state: Tensor, context: Context) -> Tensor:
        return super().logits_of(self.coda(self.c(state), context.positions), context)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        return super().logits_of(self.c(h), context)


Model = Parcae

RECIPES: dict[str, Recipe] = {}
