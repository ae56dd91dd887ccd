"""The Universal Transformer (Dehghani, Gouws, Vinyals, Uszkoreit & Kaiser 2018, arXiv 1807.03819).

- What loops: one or a few transformer blocks with shared weights, over all positions at once.
- What is injected: nothing in the paper, whose input enters as states[0]. Here, as an option, the
  input by addition or by a linear map of state and input, so that the loop can have fixed points
  that depend on the input.
- How it halts: after a fixed number of iterations, or at each position by adaptive computation
  time.
- Around the loop: a prelude and a coda of zero or more blocks.

`Config.norm` places the norms in a block (see `loopscope.nn.Norm`); `outer_norm` adds one at the
end of the iteration, so that every state has unit scale. Positions and iterations are encoded as in
the paper (sinusoids, added in every iteration), or positions by rotary angles in attention and
iterations not at all, so that every iteration applies the same map.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.arguments import Count, Finite, PositiveCount
from loopscope.core.state_tree import State
from loopscope.halting.halting_record import Halting, act_halting
from loopscope.halting.model_rules import act_rule
from loopscope.halting.rule import Rule
from loopscope.nn import (
    ACT,
    ACTState,
    Block,
    Embedding,
    Injection,
    LoopedModule,
    Norm,
    Positions,
    check_choices,
    sinusoid,
)
from loopscope.training import AdamW, Aligned, Fixed, Growing, Last, PerLength, Ramp, Recipe


@dataclass(frozen=True)
class Config:
    """The size of a Universal Transformer."""

    vocabulary: PositiveCount = 2
    """Number of tokens."""
    width: PositiveCount = 64
    """Width of the state at each position."""
    heads: PositiveCount = 4
    """Attention heads, each of width / heads."""
    layers: tuple[Count, Count, Count] = (0, 1, 0)
    """Blocks in (prelude, loop, coda); only those in the loop are repeated."""
    iterations: Count = 16
    """Default number of iterations."""
    injection: Literal["none", "add", "concat"] = "none"
    norm: Norm = "pre"
    outer_norm: bool = False
    position: Literal["sinusoid", "rotary", "none"] = "sinusoid"
    step_code: Literal["none", "sinusoid", "learned"] = "sinusoid"
    """The code of the iteration index; a learned code repeats after `iterations`."""
    halting: Literal["none", "interpolated", "accumulated"] = "none"
    """The form of adaptive computation time, if any."""
    halting_bias: Finite = 1.0
    """Initial bias of the halting unit: 1 as in the paper; -3 to start with many iterations."""


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    injected: Tensor
    """(batch, position, width): the embedded tokens after the prelude."""
    positions: Positions
    position_code: Tensor | None
    """(position, width)"""


class Universal(LoopedModule):
    """Blocks that share their weights over the iterations. Causal: a position sees itself and what
    came before."""

    def __init__(self, config: Config) -> None:
        act = config.halting != "none"
        super().__init__(config.iterations, config.vocabulary, ACTState._fields if act else ())
        check_choices(config, "position", "step_code", "halting")
        self.config = config
        # h is still updated after halting, and the next iteration depends on h alone.
        self.recurrent_fields = self.fields[:1]
        prelude, loop, coda = config.layers
        self.embed = Embedding(config.vocabulary, config.width)
        self.prelude = self._blocks(prelude)
        self.injection = Injection(config.injection, config.width)
        self.step_code = (
            nn.Embedding(config.iterations, config.width) if config.step_code == "learned" else None
        )
        self.core_in = HookPoint()
        self.core = self._blocks(loop)
        self.outer_norm = nn.RMSNorm(config.width) if config.outer_norm else nn.Identity()
        self.act = (
            ACT(config.width, config.halting, config.halting_bias) if config.halting != "none" else None
        )
        self.coda = self._blocks(coda)
        self.ln_final = nn.RMSNorm(config.width)
        self.unembed = nn.Linear(config.width, config.vocabulary)
        self.setup()

    def _blocks(self, count: int) -> nn.ModuleList:
        return nn.ModuleList(
            Block(self.config.width, self.config.heads, self.config.norm) for _ in range(count)
        )

    def encode(self, tokens: Tensor) -> Context:
        e = self.embed(tokens)
        rotary = self.config.width // self.config.heads if self.config.position == "rotary" else 0
        positions = Positions.of(e, causal=True, rotary=rotary)
        code = None
        if self.config.position == "sinusoid":
            code = sinusoid(torch.arange(e.shape[1], device=e.device), self.config.width).to(e.dtype)
        if len(self.prelude) and code is not None:
            e = e + code
        for block in self.prelude:
            e = block(e, positions)
        return Context(e, positions, code)

    def initial(self, context: Context) -> Tensor | ACTState:
        return context.injected if self.act is None else self.act.start(context.injected)

    def step(self, state: State, context: Context, t: int) -> Tensor | ACTState:
        s = self.injection(state if self.act is None else state.h, context.injected)
        if context.position_code is not None:
            s = s + context.position_code
        s = self.core_in(s if self.config.step_code == "none" else s + self._step_code(t, s))
        h = s
        for block in self.core:
            h = block(h, context.positions)
        h = self.outer_norm(h)
        return h if self.act is None else self.act.update(state, h, self.act.probability(s))

    def read_vectors(self, state: State) -> Tensor:
        return state if self.act is None else self.act.read_vectors(state)

    def with_read_vectors(self, state: State, h: Tensor) -> Any:
        return h if self.act is None else self.act.start(h)

    def decode(self, state: State, context: Context) -> Tensor:
        h = self.read_vectors(state)
        for block in self.coda:
            h = block(h, context.positions)
        return self.logits_of(h, context)

    @property
    def halting_unit(self) -> nn.Module | None:
        return None if self.act is None else self.act.gate

    @property
    def rule(self) -> Rule | None:
        return None if self.act is None else act_rule()

    def halted_positions(self, state: State) -> Tensor | None:
        return None if self.act is None else self.act.halted_positions(state)

    def penalty(self, state: State, context: Context) -> Tensor:
        return super().penalty(state, context) if self.act is None else self.act.ponder(state)

    def halting(self, run: Any) -> Halting | None:
        return None if self.act is None else act_halting(run)

    def _step_code(self, t: int, like: Tensor) -> Tensor:
        number = torch.tensor([t], device=like.device)
        if self.step_code is not None:
            return self.step_code(number % self.config.iterations)
        return sinusoid(number, self.config.width).to(like.dtype)


Model = Universal

# No step code, so that the number of iterations may vary; rotary positions, so that strings may be
# longer than in training; a norm on the residual stream, so that the state can converge.
_PARITY = {"vocabulary": 3, "norm": "stream", "injection": "add", "position": "rotary", "step_code": "none"}

RECIPES = {
    "universal-prefix-parity": Recipe(
        architecture="universal",
        config=_PARITY | {"iterations": 24},
        task="prefix-parity",
        options={"length": 16},
        steps=2000,
        curriculum=Growing(start=5, steps=1000),
        depth=PerLength(1, 2),
        gradient=Last(8),
        optimiser=AdamW(lr=1e-3, warmup=200, decay=1000, weight_decay=0.05),
    ),
    # The halting unit starts with many iterations, and the ponder cost starts once the answers are
    # right: with a cost from the start everything halts at once, long before the model can answer
    # (Sapunov 2026, arXiv 2604.21999).
    "universal-prefix-parity-act": Recipe(
        architecture="universal",
        config=_PARITY | {"iterations": 24, "halting": "accumulated", "halting_bias": -3.0},
        task="prefix-parity",
        options={"length": 16},
        steps=2000,
        curriculum=Growing(start=5, steps=1000),
        depth=PerLength(1, 1.5),
        penalty=Ramp(weight=0.01, start=1200, steps=500),
        optimiser=AdamW(lr=1e-3, warmup=200, decay=1000, weight_decay=0.05),
    ),
}

# The read-out of each iteration is trained on one result of the task's chain (RELAY: Yu et al.
# 2025, arXiv 2502.08482): loops of which it is known what they compute when. One block, and nothing
# around it that computes.
_RELAY = Recipe(
    architecture="universal",
    config={"vocabulary": 14, "width": 64, "iterations": 4, "injection": "add"},
    task="modular-chain",
    options={"modulus": 5, "operations": 4},
    steps=2000,
    batch=128,
    depth=Fixed(4),
    supervision=Aligned(),
    optimiser=AdamW(lr=2e-3, warmup=100, decay=600),
)

RECIPES |= {
    "relay-modular": _RELAY,
    # No step code: a root is its own parent, so that every iteration may do the same. Nothing is
    # injected: the input's last token is where the path begins, and the state alone where it is.
    "relay-roots": replace(
        _RELAY,
        config={**_RELAY.config, "vocabulary": 12, "injection": "none", "step_code": "none"},
        task="roots",
        options={"nodes": 12, "depth": 4},
        batch=64,
    ),
}
