"""The hierarchical reasoning model (Wang et al. 2025, arXiv 2506.21734).

- What loops: two networks at two time scales. One iteration is a high cycle: `low_updates` times
  z_L = L(z_L + z_H + x), then z_H = H(z_H + z_L). A segment is `cycles` iterations. In training
  each segment is an optimiser step, and the next one starts from its detached states.
- What is injected: the embedded tokens x, by addition, in every low update.
- How it halts: a Q-head reads the high state at the end of a segment. The model halts at the first
  segment at which the logit of halting exceeds that of continuing. Evaluation runs all segments.

Gradients pass through the last low update (`low_gradient`) and the last high update alone, as if
the states before were a fixed point.

Differences from the paper: the head reads the mean over positions, as there is no token for the
puzzle; the loss is the usual cross-entropy (the paper's has s(x) = x + 1 for x >= 0, else 1 / (1 -
x), in place of exp); the examples of a batch run through all segments together, so no example is
replaced when it halts, and there is no exploration.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.arguments import Count, PositiveCount
from loopscope.halting.halting_record import Halting, q_halting
from loopscope.halting.model_rules import q_rule
from loopscope.halting.rule import Rule
from loopscope.nn import (
    InitialStates,
    LoopedModule,
    PositionedEmbedding,
    Positions,
    QHead,
    TwoLevelState,
    level_network,
)
from loopscope.training import AdamW, Average, DeepSupervision, Fixed, Last, Recipe


@dataclass(frozen=True)
class Config:
    """The size of a hierarchical reasoning model."""

    vocabulary: PositiveCount = 5
    """Number of tokens."""
    width: PositiveCount = 64
    """Width of the state at each position."""
    heads: PositiveCount = 4
    """Attention heads, each of width / heads."""
    layers: PositiveCount = 2
    """Blocks in each of the two networks."""
    low_updates: PositiveCount = 2
    """Updates of the low state in an iteration."""
    cycles: PositiveCount = 2
    """Iterations in a segment."""
    segments: PositiveCount = 16
    """Default number of segments."""
    low_gradient: Count = 1
    """In training, the number of low updates at the end of an iteration that have gradients."""
    position: Literal["learned", "rotary"] = "learned"
    length: PositiveCount = 81
    """Largest number of positions, if they are learned."""

    @property
    def iterations(self) -> int:
        return self.cycles * self.segments


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    x: Tensor
    """(batch, position, width): the embedded tokens."""
    positions: Positions


class HRM(LoopedModule):
    """Two networks, two states. Sites: `low_in` and `high_in`, the networks' inputs; `hook_low`,
    the result of each low update."""

    update_sites: ClassVar = {"high": (), "low": ("hook_low",)}

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary, TwoLevelState._fields)
        self.config = config
        self.placed = PositionedEmbedding(
            config.vocabulary, config.width, config.heads, config.position, config.length
        )
        self.start = InitialStates(config.width)
        self.low_level = level_network(config.layers, config.width, config.heads)
        self.high_level = level_network(config.layers, config.width, config.heads)
        self.low_in, self.high_in, self.hook_low = HookPoint(), HookPoint(), HookPoint()
        self.unembed = nn.Linear(config.width, config.vocabulary, bias=False)
        self.q_head = QHead(config.width, outputs=2)
        self.setup()

    def encode(self, tokens: Tensor) -> Context:
        return Context(*self.placed(tokens))

    def initial(self, context: Context) -> TwoLevelState:
        return self.start(context.x)

    def step(self, state: TwoLevelState, context: Context, t: int) -> TwoLevelState:
        high, low = state
        detached = self.config.low_updates - self.config.low_gradient if self.training else 0
        for number in self.clock.loop("low", range(self.config.low_updates)):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number >= detached):
                low = self.hook_low(self.low_level(self.low_in(low + high + context.x), context.positions))
        return TwoLevelState(self.high_level(self.high_in(high + low), context.positions), low)

    def decode(self, state: TwoLevelState, context: Context) -> Tensor:
        return self.unembed(state.high)

    def q_values(self, state: TwoLevelState) -> Float[Tensor, "batch 2"]:
        """The logits of halting and of continuing."""
        return self.q_head(state.high)

    @property
    def rule(self) -> Rule:
        return q_rule(self.q_values, self.config.cycles)

    def halting(self, run: Any) -> Halting:
        return q_halting(run, self.config.cycles)


Model = HRM

# The budget of trm-sudoku: the same steps on the same boards, and the same updates of each state.
RECIPES = {
    "hrm-sudoku": Recipe(
        architecture="hrm",
        config={"vocabulary": 5, "length": 16, "low_updates": 3, "cycles": 2, "segments": 8},
        task="sudoku",
        options={"size": 4},
        steps=1600,
        depth=Fixed(2),
        gradient=Last(1),
        supervision=DeepSupervision(segments=4),
        average=Average(0.99),
        optimiser=AdamW(lr=1e-3, warmup=100, decay=500, weight_decay=0.1),
    ),
}
