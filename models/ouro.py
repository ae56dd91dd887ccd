"""Ouro, a looped language model with learned depth (Zhu et al. 2025, arXiv 2510.25741).

- What loops: the whole stack of decoder blocks and the final norm; the normalised state is fed
  back.
- What is injected: nothing; the input enters as states[0]. Iterations have no code either.
- How it halts: an exit gate reads the normalised state after every iteration. A position halts once
  its cumulative probability of stopping reaches `threshold` (1 in the released models: never), and
  its answer is then frozen.
- How it is trained: stage 1 with `Exits`, the expected loss over all exits with an entropy bonus;
  stage 2 with `Gate`, which trains the gate alone to predict whether the next iteration helps.

Blocks have norms before and after each branch (`norm="branch"`), gated MLPs and rotary positions.

Differences from the released models: width and depth; queries, keys and values come from one
matrix; weights have PyTorch's default initialisation, as the paper doesn't state its own.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.arguments import Count, PositiveCount, Share
from loopscope.nn import Embedding, ExitGate, ExitGateModule, ExitState, Norm, Positions, Stack
from loopscope.training import AdamW, Exits, Final, Fixed, Gate, Growing, Recipe, Stages


@dataclass(frozen=True)
class Config:
    """The size of an Ouro model."""

    vocabulary: PositiveCount = 2
    width: PositiveCount = 64
    heads: PositiveCount = 4
    hidden: PositiveCount = 192
    """Of the gated MLPs."""
    layers: PositiveCount = 2
    """Blocks in the stack, all of which loop."""
    iterations: Count = 4
    norm: Norm = "branch"
    threshold: Share = 1.0
    """q of the Q-exit: halt after the first iteration at which the cumulative probability of
    stopping reaches it."""


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    embedded: Tensor
    """(batch, position, width)"""
    positions: Positions


class Ouro(ExitGateModule):
    """A looped stack of blocks and a norm. Causal."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary)
        self.config = config
        self.embed = Embedding(config.vocabulary, config.width)
        self.core_in = HookPoint()
        self.core = Stack(
            config.layers, config.width, config.heads, norm=config.norm, hidden=config.hidden, gated=True
        )
        self.ln_core = nn.RMSNorm(config.width)
        self.exit = ExitGate(config.width, config.threshold)
        self.unembed = nn.Linear(config.width, config.vocabulary, bias=False)
        self.setup()

    def encode(self, tokens: Tensor) -> Context:
        e = self.embed(tokens)
        return Context(e, Positions.of(e, causal=True, rotary=self.config.width // self.config.heads))

    def initial(self, context: Context) -> ExitState:
        return self.exit.start(context.embedded)

    def step(self, state: ExitState, context: Context, t: int) -> ExitState:
        h = self.core(self.core_in(state.h), context.positions)
        return self.exit.update(state, self.ln_core(h))

    def decode(self, state: ExitState, context: Context) -> Tensor:
        return self.unembed(state.answer)


Model = Ouro


def _mano(layers: int, iterations: int, supervision: Final | Stages) -> Recipe:
    return Recipe(
        architecture="ouro",
        config={"vocabulary": 43, "width": 48, "hidden": 128, "layers": layers, "iterations": iterations},
        task="mano",
        options={"modulus": 5, "operators": 4},
        steps=6600,
        curriculum=Growing(start=1, steps=3000),
        depth=Fixed(iterations),
        supervision=supervision,
        optimiser=AdamW(lr=2e-3, warmup=100, decay=1500, weight_decay=0.02),
    )


def _exits(entropy: float) -> Stages:
    """First the loss of the last iteration alone, without which the loop didn't use all four; then
    the exits, then the gate alone."""
    return Stages(Final(), Stages(Exits(entropy), Gate(), at=6100), at=5000)


RECIPES = {
    "ouro-mano": _mano(2, 4, _exits(0.1)),
    # For the comparisons of the card: the same parameters without a loop, and no entropy bonus.
    "ouro-mano-once": _mano(2, 1, Final()),
    "ouro-mano-greedy": _mano(2, 4, _exits(0.0)),
}
