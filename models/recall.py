"""Single-layer loops with and without recall (Labovich 2026, arXiv 2604.15259): where the input and
the norm are placed.

- What loops: one transformer layer over all positions: attention and MLP, each a residual sub-layer
  on its own normalised input.
- What is injected: the embedded tokens e ("recall"), in every iteration; or nothing, so that they
  enter as states[0] only.
- How it halts: after a fixed number of iterations.

Two fields of `Config` place them, with F a sub-layer and N an RMSNorm:

    recall      none       h <- h + F(N(h))
                stream     h <- mix(h, e) once per iteration, then as above: e is added to the
                           residual stream
                internal   h <- h + F(N(mix(h, e))): both sub-layers read e, which is never added to
                           the residual stream
    outer_norm  none       as written
                residual   h <- N(h + F(...)) after each sub-layer
                loop       one more norm at the end of the iteration

The paper's claims: without recall fixed points are countable, so they can't depend strongly on the
input; recall with an outer norm makes fixed points that are reached and depend smoothly on the
input; internal recall is then as good as ordinary recall.

Only the paper's abstract was available. Its equations for the outer norm and for internal recall
are not verified: those above are our reading (internal recall after code by others that cites its
Definition 5.2), and the mix by addition is ours.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.arguments import Count, PositiveCount
from loopscope.nn import MLP, Attention, Embedding, Injection, LoopedModule, Positions, check_choices
from loopscope.training import AdamW, Growing, Last, PerLength, Recipe


@dataclass(frozen=True)
class Config:
    """The size of a single-layer loop, and the places of its input and its norm."""

    vocabulary: PositiveCount = 2
    """Number of tokens."""
    width: PositiveCount = 32
    """Width of the state at each position."""
    heads: PositiveCount = 2
    """Attention heads, each of width / heads."""
    iterations: Count = 16
    """Default number of iterations."""
    recall: Literal["none", "stream", "internal"] = "stream"
    mix: Literal["add", "concat"] = "add"
    """How recall mixes h and e: h + e, or W [h ; e] (see `loopscope.nn.Injection`)."""
    outer_norm: Literal["none", "residual", "loop"] = "residual"


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    injected: Tensor
    """(batch, position, width): the embedded tokens."""
    positions: Positions


class Recall(LoopedModule):
    """One looped layer. Causal, with rotary positions; it doesn't receive the iteration index."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary)
        check_choices(config, "recall", "mix", "outer_norm")
        self.config = config
        self.embed = Embedding(config.vocabulary, config.width)
        self.injection = Injection("none" if config.recall == "none" else config.mix, config.width)
        self.core_in = HookPoint()
        residual = config.outer_norm == "residual"
        self.attn = Attention(config.width, config.heads)
        self.attn_in, self.attn_out = nn.RMSNorm(config.width), _norm(config.width, residual)
        self.mlp = MLP(config.width)
        self.mlp_in, self.mlp_out = nn.RMSNorm(config.width), _norm(config.width, residual)
        self.outer_norm = _norm(config.width, config.outer_norm == "loop")
        self.ln_final = nn.RMSNorm(config.width)
        self.unembed = nn.Linear(config.width, config.vocabulary)
        self.setup()

    def encode(self, tokens: Tensor) -> Context:
        e = self.embed(tokens)
        return Context(e, Positions.of(e, causal=True, rotary=self.config.width // self.config.heads))

    def initial(self, context: Context) -> Tensor:
        return context.injected

    def step(self, state: Tensor, context: Context, t: int) -> Tensor:
        e, internal = context.injected, self.config.recall == "internal"
        h = self.core_in(state if internal else self.injection(state, e))
        branch_input = self.injection(h, e) if internal else h
        h = self.attn_out(h + self.attn(self.attn_in(branch_input), context.positions))
        branch_input = self.injection(h, e) if internal else h
        h = self.mlp_out(h + self.mlp(self.mlp_in(branch_input)))
        return self.outer_norm(h)

    def decode(self, state: Tensor, context: Context) -> Tensor:
        return self.logits_of(state, context)

    def penalty(self, state: Tensor, context: Context) -> Tensor:
        """How far the state's size is from the input's: the squared log of their ratio, on average
        over positions. The read-out doesn't see that size. Only recipes with a penalty use it."""
        ratio = state.norm(dim=-1) / context.injected.norm(dim=-1)
        return ratio.log().square().mean()


def _norm(width: int, present: bool) -> nn.Module:
    return nn.RMSNorm(width) if present else nn.Identity()


Model = Recall

# The same budget for four placements; each differs from recall-outer in a single field.
_OUTER = Recipe(
    architecture="recall",
    config={"vocabulary": 3, "width": 32, "heads": 2, "iterations": 20},
    task="prefix-parity",
    options={"length": 12},
    steps=2000,
    curriculum=Growing(start=5, steps=1000),
    depth=PerLength(1, 2),
    gradient=Last(8),
    optimiser=AdamW(lr=2e-3, warmup=200, decay=800, weight_decay=0.05),
)


def _with(**config: str) -> Recipe:
    return replace(_OUTER, config={**_OUTER.config, **config})


RECIPES = {
    "recall-none": _with(recall="none"),
    "recall-plain": _with(outer_norm="none"),
    "recall-outer": _OUTER,
    "recall-internal": _with(recall="internal"),
}
