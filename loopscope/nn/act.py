"""Adaptive computation time per position (Graves 2016, arXiv 1603.08983), in both common forms."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..halting.act_state import ACTState

OutputForm = Literal["interpolated", "accumulated"]
"""accumulated: the output is sum_n u_n h_n, Graves' mean field, with weights u that sum to one.
interpolated: output <- u_n h_n + (1 - u_n) output, as in tensor2tensor's Universal Transformer. The
two differ."""


class ACT(nn.Module):
    """The halting unit: p = sigmoid(w . s + b), computed before the block transforms s.

    A position halts in the first iteration in which the sum of its p would exceed 1 - epsilon; that
    iteration gets the remaining weight. `bias` is the initial b: 1 in the original, about -3 to
    start with many iterations (Sapunov 2026, arXiv 2604.21999).
    """

    def __init__(
        self, width: int, form: OutputForm = "interpolated", bias: float = 1.0, epsilon: float = 0.01
    ) -> None:
        super().__init__()
        self.form, self.epsilon = form, epsilon
        self.gate = nn.Linear(width, 1)
        nn.init.constant_(self.gate.bias, bias)

    def start(self, h: Float[Tensor, "batch position width"]) -> ACTState:
        """states[0] with this h."""
        zero = torch.zeros_like(h[..., 0])
        return ACTState(h, torch.zeros_like(h), zero, zero, zero)

    def probability(self, s: Float[Tensor, "batch position width"]) -> Float[Tensor, "batch position"]:
        """The halting probability p of this iteration."""
        return torch.sigmoid(self.gate(s)[..., 0])

    def update(
        self, state: ACTState, h: Float[Tensor, "batch position width"], p: Float[Tensor, "batch position"]
    ) -> ACTState:
        """The state after an iteration whose block returned `h`, with halting probability `p`."""
        running = state.mass < 1
        total = state.mass + p * running
        halts = (total > 1 - self.epsilon) & running
        remaining = (1 - state.mass) * halts
        weight = torch.where(halts, remaining, p * running)
        u = weight[..., None]
        output = state.output + h * u if self.form == "accumulated" else h * u + state.output * (1 - u)
        return ACTState(
            h=h,
            output=output,
            mass=torch.where(halts, torch.ones_like(total), total),
            remainder=torch.where(running, 1 - state.mass, state.remainder),
            count=state.count + running,
        )

    def read_vectors(self, state: ACTState) -> Float[Tensor, "batch position width"]:
        """The output if the loop ended here: at positions that have not halted, the latest h gets
        the remaining weight."""
        remaining = (1 - state.mass)[..., None]
        if self.form == "accumulated":
            return state.output + remaining * state.h
        return state.output + remaining * (state.h - state.output)

    def halted_positions(self, state: ACTState) -> Bool[Tensor, "batch position"]:
        """The positions that have halted."""
        return state.mass >= 1

    def ponder(self, state: ACTState) -> Float[Tensor, ""]:
        """Graves' ponder cost, the mean of N + R. Only R has a gradient."""
        return (state.count + state.remainder).mean()
