"""The tiny recursive model (Jolicoeur-Martineau 2025, arXiv 2510.04871), with what later papers
changed in it as options.

- What loops: one small network f for two states. One iteration is a high cycle: `low_updates` times
  z_L = f(z_L + z_H + x), then z_H = f(z_H + z_L). A segment is `cycles` iterations; in training
  each segment is an optimiser step, gradient goes through its last iteration alone, and the states
  are carried on, detached.
- What is injected: the embedded tokens x, by addition, into the low update (`input`: into which).
- How it halts: a head reads the high state at the end of a segment; logit > 0 says that the answer
  is right. Evaluation runs all segments.

Options: `input` is the wiring by role of "One model, two roles" (Shen, Su & Kyrillidis 2026, arXiv
2605.17811): with one network, who receives the input is what tells the roles apart. `start`,
`damping` and `noise` are the changes of equilibrium reasoners (arXiv 2605.21488): z <- (1 -
damping) z + damping f(z + ...) + noise N(0, 1), in training and evaluation. `rollouts` is the
probabilistic recursive model's inference (arXiv 2605.19943).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.errors import LoopscopeError
from loopscope.core.looped_model import unroll
from loopscope.halting.exit_rules import Rule, q_rule
from loopscope.halting.halting_record import Halting, q_halting
from loopscope.nn import Levels, LoopedModule, Placed, Positions, QHead, Start, checked_kinds, level
from loopscope.training import AdamW, Average, Carried, Fixed, Last, Recipe


@dataclass(frozen=True)
class Config:
    """A tiny recursive model's shape."""

    vocabulary: int = 5
    """Tokens."""
    width: int = 64
    """Numbers in a state, per position."""
    heads: int = 4
    """Attention heads; they share the width."""
    layers: int = 2
    """Blocks of the one network."""
    low_updates: int = 6
    """Updates of the low state in an iteration."""
    cycles: int = 3
    """Iterations in a segment."""
    segments: int = 16
    """Segments when the caller doesn't say."""
    input: Literal["none", "low", "high", "both"] = "low"
    """Which role's update receives x. With none, x is where the high state starts, and is never
    told again."""
    position: Literal["learned", "rotary"] = "learned"
    length: int = 81
    """The most positions, if they are learned."""
    start: Literal["fixed", "random"] = "fixed"
    """Both states before the loop: one vector each, or drawn for every position of every run."""
    damping: float = 1.0
    """The share of a state that an update replaces; equilibrium reasoners take 0.95."""
    noise: float = 0.0
    """Standard deviation of what is added after every update; equilibrium reasoners take 0.01."""

    @property
    def iterations(self) -> int:
        return self.cycles * self.segments


class Context(NamedTuple):
    x: Tensor
    """(batch, position, width): the embedded tokens."""
    positions: Positions


class TRM(LoopedModule):
    """One network, two states. Sites: `core_in`, what the network reads, and `core.*`, both by low
    update, and of the high update with `@iteration` after their names; `hook_low`, what each low
    update gives.
    """

    update_sites: ClassVar = {"high": (), "low": ("hook_low",)}

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary, Levels._fields)
        checked_kinds(config, "input", "start")
        self.config = config
        self.placed = Placed(config.vocabulary, config.width, config.heads, config.position, config.length)
        self.start = Start(config.width, fixed=config.start == "fixed")
        self.core = level(config.layers, config.width, config.heads)
        self.core_in, self.hook_low = HookPoint(), HookPoint()
        self.unembed = nn.Linear(config.width, config.vocabulary, bias=False)
        self.q_head = QHead(config.width, outputs=1)
        self.setup()

    def encode(self, tokens: Tensor) -> Context:
        return Context(*self.placed(tokens))

    def initial(self, context: Context) -> Levels:
        start = self.start(context.x)
        return start._replace(high=context.x) if self.config.input == "none" else start

    def step(self, state: Levels, context: Context, t: int) -> Levels:
        high, low = state
        to_low = context.x if self.config.input in ("low", "both") else 0.0
        to_high = context.x if self.config.input in ("high", "both") else 0.0
        for _ in self.clock.loop("low", range(self.config.low_updates)):
            low = self.hook_low(self._updated(low, high + to_low, context))
        return Levels(self._updated(high, low + to_high, context), low)

    def decode(self, state: Levels, context: Context) -> Tensor:
        return self.unembed(state.high)

    def q_values(self, state: Levels) -> Float[Tensor, "batch 1"]:
        """The logit that the whole answer is right."""
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
    """Several noisy runs on the same tokens, and the one that was chosen for each row."""

    logits: Float[Tensor, "batch position vocab"]
    """Of the chosen run."""
    chosen: Int[Tensor, " batch"]
    """Which run that is."""
    answers: Int[Tensor, "rollout batch position"]
    """Of all runs."""
    q: Float[Tensor, "rollout batch"]
    """Each run's own logit that its answer is right, at its end."""


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
    """Run the model `count` times with noise, and choose by Q: inference of the probabilistic
    recursive model (arXiv 2605.19943).

    Before every segment N(0, noise^2) is added to each number of a state. Which state the paper
    means is told in two ways, so `into` says it. The first run has no noise.

    Arguments:
        segments: the model's own number unless given.
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
    noisy = Levels._fields if into == "both" else (into,)
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
    chosen = q.argmax(0)
    return Rollouts(logits[chosen, torch.arange(batch, device=chosen.device)], chosen, logits.argmax(-1), q)


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
        supervision=Carried(segments=4),
        average=Average(0.99),
        optimiser=AdamW(lr=1e-3, warmup=100, decay=500, weight_decay=0.1),
    ),
}
