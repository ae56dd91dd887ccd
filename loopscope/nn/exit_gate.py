"""An exit gate: after every iteration, the probability of stopping here, per position."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from ..halting.halting_record import Halting, exit_halting
from ..halting.model_rules import exit_rule
from ..halting.rule import Rule
from .looped_module import LoopedModule


class ExitState(NamedTuple):
    """The state of a loop with an exit gate. The next iteration depends on `h` alone."""

    h: Float[Tensor, "batch position width"]
    answer: Float[Tensor, "batch position width"]
    """What the read-out reads: h, until the position has halted."""
    exit_probability: Float[Tensor, "batch position"]
    """lambda of the last iteration; 0 before the loop."""
    survival: Float[Tensor, "batch position"]
    """The probability of not having stopped yet, 1..0."""


class ExitGate(nn.Module):
    """lambda = sigmoid(w . h + b) after every iteration (Ouro: arXiv 2510.25741; PonderNet: arXiv
    2107.05407).

    A position halts after the first iteration at which the cumulative probability of stopping
    reaches `threshold`. Its answer is then frozen, while h is still updated and read by other
    positions. In training nothing is frozen: the loss reads every h.
    """

    def __init__(self, width: int, threshold: float, bias: float = 0.0) -> None:
        super().__init__()
        self.threshold = threshold
        self.gate = nn.Linear(width, 1)
        nn.init.constant_(self.gate.bias, bias)
        self.hook_exit_probability = HookPoint()

    def start(self, h: Float[Tensor, "batch position width"]) -> ExitState:
        """states[0] with this h."""
        zero = torch.zeros_like(h[..., 0])
        return ExitState(h, h, zero, torch.ones_like(zero))

    def update(self, state: ExitState, h: Float[Tensor, "batch position width"]) -> ExitState:
        """The state after an iteration whose blocks returned `h`."""
        probability = self.hook_exit_probability(self.probability(h))
        halted = self.halted_positions(state) & (not self.training)
        answer = torch.where(halted[..., None], state.answer, h)
        return ExitState(h, answer, probability, state.survival * (1 - probability))

    def probability(self, h: Float[Tensor, "batch position width"]) -> Float[Tensor, "batch position"]:
        """lambda, from the h after an iteration."""
        return torch.sigmoid(self.gate(h)[..., 0])

    def halted_positions(self, state: ExitState) -> Tensor:
        """(batch, position), True where the answer is frozen."""
        return 1 - state.survival >= self.threshold


class ExitGateModule(LoopedModule):
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
        return exit_rule(self.exit.threshold, lambda state: state.exit_probability, self.source)

    def halted_positions(self, state: ExitState) -> Tensor:
        return self.exit.halted_positions(state)

    def without_freezing(self, state: ExitState) -> ExitState:
        return state._replace(answer=state.h)

    def read_vectors(self, state: ExitState) -> Tensor:
        return state.answer

    def with_read_vectors(self, state: ExitState, h: Tensor) -> ExitState:
        return state._replace(h=h, answer=h)

    def halting(self, run: Any) -> Halting:
        return exit_halting(run["state.exit_probability"].tensor[1:].float(), self.exit.threshold, self.kind)
