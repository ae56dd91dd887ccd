"""The tiny recursive model (Jolicoeur-Martineau 2025, arXiv 2510.04871), with changes of later
papers as options.

- What loops: one small network f for two states. One iteration is a high cycle: `low_updates` times
  z_L = f(z_L + z_H + x), then z_H = f(z_H + z_L). A segment is `cycles` iterations. In training
  each segment is an optimiser step, only its last iteration has gradients, and the next segment
  starts from its detached states.
- What is injected: the embedded tokens x, by addition, in the low update (option `input`).
- How it halts: a Q-head reads the high state at the end of a segment; a logit above 0 predicts that
  the answer is right. Evaluation runs all segments.

Options: `input` is the wiring of "One model, two roles" (Shen, Su & Kyrillidis 2026, arXiv
2605.17811): with one network, only the injection distinguishes the two roles. `start`, `damping`
and `noise` are those of equilibrium reasoners (arXiv 2605.21488): z <- (1 - damping) z + damping
f(z + ...) + noise N(0, 1), in training and evaluation. `rollouts` is the inference of the
probabilistic recursive model (arXiv 2605.19943).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.arguments import NotNegative, PositiveCount
from loopscope.common.errors import LoopscopeError
from loopscope.core.looped_model import unroll
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
    check_choices,
    level_network,
)
from loopscope.training import AdamW, Average, DeepSupervision, Fixed, Last, Recipe


@dataclass(frozen=True)
class Config:
    """The size of a tiny recursive model."""

    vocabulary: PositiveCount = 5
    """Number of tokens."""
    width: PositiveCount = 64
    """Width of the state at each position."""
    heads: PositiveCount = 4
    """Attention heads, each of width / heads."""
    layers: PositiveCount = 2
    """Blocks of the network."""
    low_updates: PositiveCount = 6
    """Updates of the low state in an iteration."""
    cycles: PositiveCount = 3
    """Iterations in a segment."""
    segments: PositiveCount = 16
    """Default number of segments."""
    input: Literal["none", "low", "high", "both"] = "low"
    """The updates that x is injected into. With none, x is the initial high state and isn't
    injected again."""
    position: Literal["learned", "rotary"] = "learned"
    length: PositiveCount = 81
    """Largest number of positions, if they are learned."""
    start: Literal["fixed", "random"] = "fixed"
    """Both states before the loop: one vector each, or drawn at every position of every run."""
    damping: NotNegative = 1.0
    """The weight of the new value in an update; 0.95 in equilibrium reasoners."""
    noise: NotNegative = 0.0
    """Standard deviation of the noise added after every update; 0.01 in equilibrium reasoners."""

    @property
    def iterations(self) -> int:
        return self.cycles * self.segments


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    x: Tensor
    """(batch, position, width): the embedded tokens."""
    positions: Positions


class TRM(LoopedModule):
    """One network, two states. Sites: `core_in`, the network's input, and `core.*`, with one value
    per low update; the same names followed by `@iteration` for the high update; `hook_low`, the
    result of each low update.
    """

    update_sites: ClassVar = {"high": (), "low": ("hook_low",)}

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary, TwoLevelState._fields)
        check_choices(config, "input", "start")
        self.config = config
        self.placed = PositionedEmbedding(
            config.vocabulary, config.width, config.heads, config.position, config.length
        )
        self.start = InitialStates(config.width, fixed=config.start == "fixed")
        self.core = level_network(config.layers, config.width, config.heads)
        self.core_in, self.hook_low = HookPoint(), HookPoint()
        self.unembed = nn.Linear(config.width, config.vocabulary, bias=False)
        self.q_head = QHead(config.width, outputs=1)
        self.setup()

    def encode(self, tokens: Tensor) -> Context:
        return Context(*self.placed(tokens))

    def initial(self, context: Context) -> TwoLevelState:
        start = self.start(context.x)
        return start._replace(high=context.x) if self.config.input == "none" else start

    def step(self, state: TwoLevelState, context: Context, t: int) -> TwoLevelState:
        high, low = state
        to_low = context.x if self.config.input in ("low", "both") else 0.0
        to_high = context.x if self.config.input in ("high", "both") else 0.0
        for _ in self.clock.loop("low", range(self.config.low_updates)):
            low = self.hook_low(self._updated(low, high + to_low, context))
        return TwoLevelState(self._updated(high, low + to_high, context), low)

    def decode(self, state: TwoLevelState, context: Context) -> Tensor:
        return self.unembed(state.high)

    def q_values(self, state: TwoLevelState) -> Float[Tensor, "batch 1"]:
        """The logit of the whole answer being right."""
        return self.q_head(state.high)

    @property
    def rule(self) -> Rule:
        return q_rule(self.q_values, self.config.cycles)

    def halting(self, run: Any) -> Halting:
        return q_halting(run, self.config.cycles)

    def _updated(self, z: Tensor, injected: Tensor, context: Context) -> Tensor:
        new = self.core(self.core_in(z + injected), context.positions)
        if self.config.damping != 1.0:
            new = (1 - self.config.damping) * z + self.config.damping * new
        return new + self.config.noise * torch.randn_like(new) if self.config.noise else new


@dataclass(frozen=True)
class Rollouts:
    """Several noisy runs on the same tokens, and the best one for each row."""

    logits: Float[Tensor, "batch position vocab"]
    """Of the best run."""
    best: Int[Tensor, " batch"]
    """The index of the run with the largest q."""
    answers: Int[Tensor, "rollout batch position"]
    """Of all runs."""
    q: Float[Tensor, "rollout batch"]
    """The logit of each run's answer being right, at its end."""


@torch.no_grad()
def rollouts(
    model: TRM,
    tokens: Int[Tensor, "batch position"],
    count: int,
    noise: float = 0.2,
    *,
    into: Literal["high", "low", "both"] = "both",
    segments: int | None = None,
    seed: int = 0,
) -> Rollouts:
    """Run the model `count` times with noise and select the run with the largest q: inference of
    the probabilistic recursive model (arXiv 2605.19943).

    Before every segment N(0, noise²) is added to each number of a state. The paper is ambiguous
    about which state, so `into` is an option. The first run has no noise.

    Arguments:
        segments: None for the model's own number.

    Raises:
        LoopscopeError: an unknown `into`, or a count below 1.
    """
    if into not in ("high", "low", "both"):
        raise LoopscopeError(f"into must be 'high', 'low' or 'both', but is {into!r}.")
    if count < 1:
        raise LoopscopeError(f"count must be a whole number, 1 or more, but is {count!r}.")
    cycles, segments = model.config.cycles, model.config.segments if segments is None else segments
    batch = len(tokens)
    scale = torch.full((count, batch, 1, 1), noise)
    scale[0] = 0.0
    scale = scale.flatten(0, 1).to(next(model.parameters()).device)
    noisy = TwoLevelState._fields if into == "both" else (into,)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        context = model.encode(tokens.repeat(count, 1))
        state = model.initial(context)
        for segment in range(segments):
            state = state._replace(
                **{name: (z := getattr(state, name)) + scale * torch.randn_like(z) for name in noisy}
            )
            for _, reached in unroll(model, state, context, cycles * (segment + 1), start=cycles * segment):
                state = reached
    logits = model.decode(state, context).unflatten(0, (count, batch))
    q = model.q_values(state)[:, 0].view(count, batch)
    best = q.argmax(0)
    return Rollouts(logits[best, torch.arange(batch, device=best.device)], best, logits.argmax(-1), q)


Model = TRM

RECIPES = {
    "trm-sudoku": Recipe(
        architecture="trm",
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
