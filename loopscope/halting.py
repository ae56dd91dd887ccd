"""When each position stopped: the halting of one run, whatever mechanism decided it."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Halting:
    """Halting weights and what follows from them. Iterations are 0-based: a position that used one halted in iteration 0."""

    weights: Float[Tensor, "iteration batch position"]
    """Share of each iteration in the output; sums to one over the iterations."""
    iteration: Int[Tensor, "batch position"]
    """The iteration in which the position halted, or the last one where the loop ended first."""
    halted: Bool[Tensor, "batch position"]
    """False where the loop ended before the position had halted."""
    remainder: Float[Tensor, "batch position"]
    """Weight of the last iteration used, Graves' R."""
    cost: Float[Tensor, "batch position"]
    """Ponder cost N + R, with N the number of iterations used."""


def act_halting(run: Any) -> Halting:
    """Adaptive computation time, read from the run's states (Graves 2016, arXiv 1603.08983).

    The state's `mass` is the halting probability spent; its differences are the weights. Where the loop ended first, the
    last iteration gets what is left, as in the read-out.
    """
    mass = run["state.mass"].tensor.float()
    weights = mass.diff(dim=0)
    halted = mass[-1] >= 1
    if len(weights):
        weights = torch.cat([weights[:-1], weights[-1:] + (1 - mass[-1:])])
    count = run["state.count"][-1].float()
    iteration = (count.long() - 1).clamp(min=0)
    remainder = run["state.remainder"][-1].float()
    return Halting(weights, iteration, halted, remainder, count + remainder)
