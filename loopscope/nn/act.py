"""Adaptive computation time, position by position (Graves 2016, arXiv 1603.08983), in both forms
that are in use."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Form = Literal["interpolated", "accumulated"]
"""accumulated: the output is sum_n u_n h_n, Graves' mean field, with weights u that sum to one.
interpolated: output <- u_n h_n + (1 - u_n) output, as in tensor2tensor's Universal Transformer. The
two differ."""


class ACTState(NamedTuple):
    """What an ACT loop carries. `h` goes on being transformed and read by others after its position
    has halted."""

    h: Float[Tensor, "batch position width"]
    output: Float[Tensor, "batch position width"]
    """What the read-out reads; it stops moving when the position halts."""
    mass: Float[Tensor, "batch position"]
    """Halting probability spent so far, 0..1; exactly 1 once halted. Its differences are the
    weights u."""
    remainder: Float[Tensor, "batch position"]
    """R: what the last iteration used weighs; while running, what it would weigh if the loop ended
    with it."""
    count: Float[Tensor, "batch position"]
    """N: iterations used so far, the halting one included."""


class ACT(nn.Module):
    """The halting unit: p = sigmoid(w . s + b), read before the block transforms s.

    A position halts in the first iteration in which its summed p would exceed 1 - epsilon; that
    iteration gets what is left of the weight. `bias` is where b starts: 1 in the original, about -3
    for a deep start (Sapunov 2026, arXiv 2604.21999).
    """

    def __init__(
        self, width: int, form: Form = "interpolated", bias: float = 1.0, epsilon: float = 0.01
    ) -> None:
        super().__init__()
        self.form, self.epsilon = form, epsilon
        self.gate = nn.Linear(width, 1)
        nn.init.constant_(self.gate.bias, bias)

    def start(self, h: Float[Tensor, "batch position width"]) -> ACTState:
        zero = torch.zeros_like(h[..., 0])
        return ACTState(h, torch.zeros_like(h), zero, zero, zero)

    def probability(self, s: Float[Tensor, "batch position width"]) -> Float[Tensor, "batch position"]:
        return torch.sigmoid(self.gate(s)[..., 0])

    def update(
        self, state: ACTState, h: Float[Tensor, "batch position width"], p: Float[Tensor, "batch position"]
    ) -> ACTState:
        """One iteration's bookkeeping, after the block made `h` of what gave `p`."""
        running = state.mass < 1
        spent = state.mass + p * running
        halts = (spent > 1 - self.epsilon) & running
        left = (1 - state.mass) * halts
        weight = torch.where(halts, left, p * running)
        u = weight[..., None]
        output = state.output + h * u if self.form == "accumulated" else h * u + state.output * (1 - u)
        return ACTState(
            h=h,
            output=output,
            mass=torch.where(halts, torch.ones_like(spent), spent),
            remainder=torch.where(running, 1 - state.mass, state.remainder),
            count=state.count + running,
        )

    def read_vectors(self, state: ACTState) -> Float[Tensor, "batch position width"]:
        """The output if the loop ended here: a position that has not halted gives its latest h the
        weight left over."""
        left = (1 - state.mass)[..., None]
        if self.form == "accumulated":
            return state.output + left * state.h
        return state.output + left * (state.h - state.output)

    def halted(self, state: ACTState) -> Bool[Tensor, "batch position"]:
        return state.mass >= 1

    def ponder(self, state: ACTState) -> Float[Tensor, ""]:
        """Graves' ponder cost, the mean of N + R. Its gradient comes through R alone."""
        return (state.count + state.remainder).mean()
