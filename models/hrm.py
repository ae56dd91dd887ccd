"""The hierarchical reasoning model (Wang et al. 2025, arXiv 2506.21734).

- What loops: two networks at two speeds. One iteration is a high cycle: `low_updates` times z_L =
  L(z_L + z_H + x), then z_H = H(z_H + z_L). A segment is `cycles` iterations; in training each
  segment is an optimiser step, and the states are carried on, detached.
- What is injected: the embedded tokens x, by addition, into every low update.
- How it halts: a head reads the high state at the end of a segment; the segment is the last where
  logit "halt" exceeds logit "continue". Evaluation runs all segments.

The gradient goes through the last low and the last high update alone (`low_gradient`), which takes
their end for a fixed point.

What differs from the paper: the head reads the mean over positions, as there is no puzzle's token;
the cross-entropy is the usual one (the paper's is of s(x) = x + 1 for x >= 0, else 1 / (1 - x), in
place of exp); a batch is carried through all its segments together, so no row is replaced by a
fresh example as soon as it halts, and nothing is explored.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.halting.exit_rules import Rule, q_rule
from loopscope.halting.halting_record import Halting, q_halting
from loopscope.nn import Levels, LoopedModule, Placed, Positions, QHead, Start, level
from loopscope.training import AdamW, Average, Carried, Fixed, Last, Recipe


@dataclass(frozen=True)
class Config:
    """A hierarchical reasoning model's shape."""

    vocabulary: int = 5
    """Tokens."""
    width: int = 64
    """Numbers in a state, per position."""
    heads: int = 4
    """Attention heads; they share the width."""
    layers: int = 2
    """Blocks in each of the two networks."""
    low_updates: int = 2
    """Updates of the low state in an iteration."""
    cycles: int = 2
    """Iterations in a segment."""
    segments: int = 16
    """Segments when the caller doesn't say."""
    low_gradient: int = 1
    """How many of an iteration's last low updates keep their gradient in training."""
    position: Literal["learned", "rotary"] = "learned"
    length: int = 81
    """The most positions, if they are learned."""

    @property
    def iterations(self) -> int:
        return self.cycles * self.segments


class Context(NamedTuple):
    x: Tensor
    """(batch, position, width): the embedded tokens."""
    positions: Positions


class HRM(LoopedModule):
    """Two networks, two states. Sites: `low_in` and `high_in`, what a network reads; `hook_low`,
    what each low update gives."""

    update_sites: ClassVar = {"high": (), "low": ("hook_low",)}

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary, Levels._fields)
        self.config = config
        self.placed = Placed(config.vocabulary, config.width, config.heads, config.position, config.length)
        self.start = Start(config.width)
        self.low_level = level(config.layers, config.width, config.heads)
        self.high_level = level(config.layers, config.width, config.heads)
        self.low_in, self.high_in, self.hook_low = HookPoint(), HookPoint(), HookPoint()
        self.unembed = nn.Linear(config.width, config.vocabulary, bias=False)
        self.q_head = QHead(config.width, outputs=2)
        self.setup()

    def encode(self, tokens: Tensor) -> Context:
        return Context(*self.placed(tokens))

    def initial(self, context: Context) -> Levels:
        return self.start(context.x)

    def step(self, state: Levels, context: Context, t: int) -> Levels:
        high, low = state
        cut = self.config.low_updates - self.config.low_gradient if self.training else 0
        for number in self.clock.loop("low", range(self.config.low_updates)):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number >= cut):
                low = self.hook_low(self.low_level(self.low_in(low + high + context.x), context.positions))
        return Levels(self.high_level(self.high_in(high + low), context.positions), low)

    def decode(self, state: Levels, context: Context) -> Tensor:
        return self.unembed(state.high)

    def q_values(self, state: Levels) -> Float[Tensor, "batch 2"]:
        """The logits of halting and of going on."""
        return self.q_head(state.high)

    @property
    def rule(self) -> Rule:
        return q_rule(self.q_values, self.config.cycles)

    def halting(self, run: Any) -> Halting:
        return q_halting(run, self.config.cycles)


Model = HRM

# The budget of trm-sudoku: as many steps on the same boards, and as many updates of each state.
RECIPES = {
    "hrm-sudoku": Recipe(
        architecture="hrm",
        config={"vocabulary": 5, "length": 16, "low_updates": 3, "cycles": 2, "segments": 8},
        task="sudoku",
        options={"size": 4},
        steps=1600,
        depth=Fixed(2),
        gradient=Last(1),
        supervision=Carried(segments=4),
        average=Average(0.99),
        optimiser=AdamW(lr=1e-3, warmup=100, decay=500, weight_decay=0.1),
    ),
}
