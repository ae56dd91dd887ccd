"""Single-layer loops with and without recall (Labovich 2026, arXiv 2604.15259): where the input and
the norm are placed.

- What loops: one transformer layer, attention and MLP, each a residual sub-layer on its own
  normalised input, over all positions.
- What is injected: the embedded tokens e ("recall"), in every iteration; or nothing, so that they
  only start the loop.
- How it halts: after a fixed number of iterations.

Two fields of `Config` place them, with F a sub-layer and N an RMSNorm:

    recall      none       h <- h + F(N(h))
                stream     h <- mix(h, e), once per iteration, and then as above: e joins the residual stream
                internal   h <- h + F(N(mix(h, e))): e is read by both sub-layers and never stands on the stream
    outer_norm  none       as written
                residual   h <- N(h + F(...)) after each sub-layer
                loop       one norm more where the iteration ends

The paper's claims: without recall fixed points are countable, so they can't depend on the input
strongly; recall with an outer norm makes fixed points that are reached and depend on the input
smoothly; internal recall then rivals ordinary recall.

Only the paper's abstract was at hand. Its equations for the outer norm and for internal recall are
not verified: those above are our reading (internal recall after a third party's code that cites its
Definition 5.2), the mix by addition is ours.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.nn import MLP, Attention, Embedding, Injection, LoopedModule, Positions, checked_kinds
from loopscope.training import AdamW, Growing, Last, PerLength, Recipe


@dataclass(frozen=True)
class Config:
    """A single-layer loop's shape, and where its input and its norm stand."""

    vocabulary: int = 2
    """Tokens."""
    width: int = 32
    """Numbers in a state, per position."""
    heads: int = 2
    """Attention heads; they share the width."""
    iterations: int = 16
    """Iterations when the caller doesn't say."""
    recall: Literal["none", "stream", "internal"] = "stream"
    mix: Literal["add", "concat"] = "add"
    """How recall mixes h and e: h + e, or W [h ; e] (see `loopscope.nn.Injection`)."""
    outer_norm: Literal["none", "residual", "loop"] = "residual"


class Context(NamedTuple):
    injected: Tensor
    """(batch, position, width): the embedded tokens."""
    positions: Positions


class Recall(LoopedModule):
    """One layer, looped. Causal, with rotary positions; it is not told the number of the
    iteration."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary)
        checked_kinds(config, "recall", "mix", "outer_norm")
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
        read = self.injection(h, e) if internal else h
        h = self.attn_out(h + self.attn(self.attn_in(read), context.positions))
        read = self.injection(h, e) if internal else h
        h = self.mlp_out(h + self.mlp(self.mlp_in(read)))
        return self.outer_norm(h)

    def decode(self, state: Tensor, context: Context) -> Tensor:
        return self.logits_of(state, context)


def _norm(width: int, wanted: bool) -> nn.Module:
    return nn.RMSNorm(width) if wanted else nn.Identity()


Model = Recall

# One budget for four placements; each differs from recall-outer in a single field.
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
