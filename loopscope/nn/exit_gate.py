"""An exit gate: after every iteration, the chance that the loop stops here, position by
position."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from ..halting.exit_rules import Rule, exit_rule
from ..halting.halting_record import Halting, exit_halting
from .looped_module import LoopedModule


class ExitState(NamedTuple):
    """What a loop with an exit gate carries. Only `h` decides where it goes."""

    h: Float[Tensor, "batch position width"]
    answer: Float[Tensor, "batch position width"]
    """What the read-out reads: h, until the position has stopped."""
    chance: Float[Tensor, "batch position"]
    """lambda of the last iteration; 0 before the loop."""
    going: Float[Tensor, "batch position"]
    """The chance of not having stopped yet, 1..0."""


class ExitGate(nn.Module):
    """lambda = sigmoid(w . h + b) after every iteration (Ouro: arXiv 2510.25741; PonderNet: arXiv
    2107.05407).

    A position stops after the first iteration by which the summed chance of stopping reaches
    `threshold`; then its answer stands, while h goes on being transformed and read by others. In
    training nothing is frozen: a supervision reads every h.
    """

    def __init__(self, width: int, threshold: float, bias: float = 0.0) -> None:
        super().__init__()
        self.threshold = threshold
        self.gate = nn.Linear(width, 1)
        nn.init.constant_(self.gate.bias, bias)
        self.hook_chance = HookPoint()

    def start(self, h: Float[Tensor, "batch position width"]) -> ExitState:
        zero = torch.zeros_like(h[..., 0])
        return ExitState(h, h, zero, torch.ones_like(zero))

    def update(self, state: ExitState, h: Float[Tensor, "batch position width"]) -> ExitState:
        """One iteration's bookkeeping, after the blocks made `h`."""
        chance = self.hook_chance(self.probability(h))
        stopped = self.halted_positions(state) & (not self.training)
        answer = torch.where(stopped[..., None], state.answer, h)
        return ExitState(h, answer, chance, state.going * (1 - chance))

    def probability(self, h: Float[Tensor, "batch position width"]) -> Float[Tensor, "batch position"]:
        """lambda, from the state that an iteration has made."""
        return torch.sigmoid(self.gate(h)[..., 0])

    def halted_positions(self, state: ExitState) -> Tensor:
        """(batch, position), True where the answer stands."""
        return 1 - state.going >= self.threshold


class Exiting(LoopedModule):
    """A loop with an exit gate, `self.exit`, whose state is an `ExitState`."""

    exit: ExitGate
    kind, source = "exit gate", "Zhu et al. 2025, arXiv 2510.25741"

    def __init__(self, iterations: int, vocabulary: int) -> None:
        super().__init__(iterations, vocabulary, ExitState._fields)
        self.recurrent_fields = self.fields[:1]

    def exit_probability(self, state: ExitState) -> Tensor:
        return self.exit.probability(state.h)

    @property
    def halting_unit(self) -> nn.Module:
        return self.exit.gate

    @property
    def rule(self) -> Rule:
        return exit_rule(self.exit.threshold, lambda state: state.chance, self.source)

    def halted_positions(self, state: ExitState) -> Tensor:
        return self.exit.halted_positions(state)

    def without_freezing(self, state: ExitState) -> ExitState:
        return state._replace(answer=state.h)

    def read_vectors(self, state: ExitState) -> Tensor:
        return state.answer

    def with_read_vectors(self, state: ExitState, h: Tensor) -> ExitState:
        return state._replace(h=h, answer=h)

    def halting(self, run: Any) -> Halting:
        return exit_halting(run["state.chance"].tensor[1:].float(), self.exit.threshold, self.kind)
