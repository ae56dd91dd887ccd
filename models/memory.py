"""A Universal Transformer with memory tokens (Sapunov 2026, "Universal Transformers Need Memory",
arXiv 2604.21999).

- What loops: one transformer block over the tokens and a few memory tokens together, without a
  causal mask.
- What is injected: nothing in the paper, whose input enters as states[0]; here, as an option, the
  input by addition in every iteration. Each iteration adds a learned code of its index.
- How it halts: token by token, by adaptive computation time whose probability is read after the
  block. Memory tokens halt too. Tokens that have halted are frozen; the last iteration gets the
  remaining weight. The halting unit's bias starts at -3: from 0 or 1 everything halts after two
  iterations, before the model has learned to use more.

The memory is a field of the state, so that the primary state has the tokens' positions. Differences
from the paper: the block's norm is RMSNorm with gain (the paper prefers one made of the error
function); positions are learned (there: rotary, with separate ranges for memory and tokens);
queries and keys are not normalised.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from loopscope.common.arguments import Count, Finite, PositiveCount, Share
from loopscope.halting.halting_record import Halting, act_halting
from loopscope.halting.model_rules import act_rule
from loopscope.halting.rule import Rule
from loopscope.nn import ACT, ACTState, Block, Injection, LoopedModule, Norm, PositionedEmbedding, Positions
from loopscope.training import AdamW, Average, Fixed, Recipe


@dataclass(frozen=True)
class Config:
    """The size of a Universal Transformer with memory."""

    vocabulary: PositiveCount = 5
    """Number of tokens."""
    width: PositiveCount = 64
    """Width of the state at each position and memory token."""
    heads: PositiveCount = 4
    """Attention heads, each of width / heads."""
    memory: Count = 8
    """Memory tokens; 0 for none."""
    layers: PositiveCount = 1
    """Blocks in an iteration."""
    iterations: Count = 18
    """Default number of iterations, and the number of iteration codes, which then repeat."""
    injection: Literal["none", "add"] = "none"
    norm: Norm = "pre"
    halting_bias: Finite = -3.0
    """Initial bias of the halting unit."""
    epsilon: Share = 0.05
    """A token halts once its summed probability exceeds 1 - epsilon."""
    length: PositiveCount = 81
    """Largest number of positions."""


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    x: Tensor
    """(batch, position, width): the embedded tokens."""
    positions: Positions


class State(NamedTuple):
    """ACT's five fields for the tokens (see `loopscope.nn.ACTState`), and the memory with its own
    fields."""

    h: Float[Tensor, "batch position width"]
    output: Float[Tensor, "batch position width"]
    mass: Float[Tensor, "batch position"]
    remainder: Float[Tensor, "batch position"]
    count: Float[Tensor, "batch position"]
    memory: Float[Tensor, "batch slot width"]
    memory_mass: Float[Tensor, "batch slot"]
    memory_remainder: Float[Tensor, "batch slot"]
    memory_count: Float[Tensor, "batch slot"]

    @property
    def tokens(self) -> ACTState:
        """The fields of the tokens."""
        return ACTState(*self[:5])

    @property
    def slots(self) -> ACTState:
        """The fields of the memory, whose output is never read."""
        return ACTState(self.memory, self.memory, self.memory_mass, self.memory_remainder, self.memory_count)

    @staticmethod
    def of(tokens: ACTState, slots: ACTState) -> "State":
        """The state of these tokens and memory slots."""
        return State(*tokens, slots.h, slots.mass, slots.remainder, slots.count)


class Memory(LoopedModule):
    """A looped block over tokens and memory. The memory's positions come first in the sites of
    attention, and last in the site `halting`."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary, State._fields)
        self.config = config
        self.recurrent_fields = ("h", "mass", "memory", "memory_mass")  # halted tokens are frozen
        self.placed = PositionedEmbedding(
            config.vocabulary, config.width, config.heads, "learned", config.length
        )
        self.memory = nn.Parameter(0.02 * torch.randn(config.memory, config.width))
        self.kind = nn.Parameter(0.02 * torch.randn(2, config.width))
        self.injection = Injection(config.injection, config.width)
        self.step_code = nn.Embedding(config.iterations, config.width)
        nn.init.normal_(self.step_code.weight, std=0.02)
        self.core_in = HookPoint()
        self.core = nn.ModuleList(
            Block(config.width, config.heads, config.norm, hidden=8 * round(config.width / 3), gated=True)
            for _ in range(config.layers)
        )
        self.act = ACT(config.width, "accumulated", config.halting_bias, config.epsilon)
        self.ln_final = nn.RMSNorm(config.width)
        self.unembed = nn.Linear(config.width, config.vocabulary, bias=False)
        self.setup()

    def encode(self, tokens: Tensor) -> Context:
        return Context(*self.placed(tokens))

    def initial(self, context: Context) -> State:
        memory = (self.memory + self.kind[0]).expand(len(context.x), -1, -1)
        return State.of(self.act.start(context.x + self.kind[1]), self.act.start(memory))

    def step(self, state: State, context: Context, t: int) -> State:
        slots, tokens = state.slots, state.tokens
        s = torch.cat([slots.h, self.injection(tokens.h, context.x)], dim=1)
        s = self.core_in(s + self.step_code.weight[t % self.config.iterations])
        for block in self.core:
            s = block(s, context.positions)
        memory, new = s.split([slots.h.shape[1], tokens.h.shape[1]], dim=1)
        memory, new = self._frozen(slots, memory), self._frozen(tokens, new)
        # One call of the halting unit, tokens first, so that positions of its site are those of the
        # tokens.
        p = self.act.probability(torch.cat([new, memory], dim=1))
        p_tokens, p_slots = p.split([new.shape[1], memory.shape[1]], dim=1)
        return State.of(self.act.update(tokens, new, p_tokens), self.act.update(slots, memory, p_slots))

    def _frozen(self, state: ACTState, new: Tensor) -> Tensor:
        """The new h, with the previous h where a token had halted."""
        return torch.where(self.act.halted_positions(state)[..., None], state.h, new)

    def read_vectors(self, state: State) -> Tensor:
        return self.act.read_vectors(state.tokens)

    def with_read_vectors(self, state: State, h: Tensor) -> State:
        return State.of(self.act.start(h), state.slots)

    def decode(self, state: State, context: Context) -> Tensor:
        return self.logits_of(self.read_vectors(state), context)

    @property
    def halting_unit(self) -> nn.Module:
        return self.act.gate

    @property
    def rule(self) -> Rule:
        return act_rule("Sapunov 2026, arXiv 2604.21999")

    def halted_positions(self, state: State) -> Tensor:
        return self.act.halted_positions(state.tokens)

    def penalty(self, state: State, context: Context) -> Tensor:
        """The mean of N + R over tokens and memory."""
        count, remainder = (
            torch.cat([getattr(state.tokens, name), getattr(state.slots, name)], dim=1)
            for name in ("count", "remainder")
        )
        return (count + remainder).mean()

    def halting(self, run: Any) -> Halting:
        return act_halting(run)


Model = Memory

# Without a ponder cost: the halting unit learns from the answers alone.
RECIPES = {
    "memory-sudoku": Recipe(
        architecture="memory",
        config={"vocabulary": 7, "length": 36, "memory": 4, "iterations": 8},
        task="sudoku",
        options={"size": 6},
        steps=1200,
        batch=32,
        depth=Fixed(8),
        average=Average(0.99),
        optimiser=AdamW(lr=2e-3, warmup=100, decay=300, weight_decay=0.1),
    ),
}
