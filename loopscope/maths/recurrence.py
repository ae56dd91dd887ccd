"""Recurrence plots: which states of a trajectory are close to which others."""

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..common.arguments import FINITE
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from .precision import precision, rounding


@dataclass(frozen=True)
class Recurrence:
    """A recurrence plot (Eckmann, Kamphorst & Ruelle 1987) and its statistics."""

    distance: Float[Tensor, "... iteration iteration"]
    """‖x_k - x_l‖ over the root mean square distance of all pairs; 0 on the diagonal, about 1 where
    nothing returns."""
    recurs: Bool[Tensor, "... iteration iteration"]
    """Whether `distance` is below the threshold, or is no more than rounding of the states."""
    rate: Float[Tensor, "..."]
    """Fraction of pairs of different states that recur."""
    determinism: Float[Tensor, "..."]
    """Fraction of the recurring pairs whose successors or predecessors recur too: near 1 for
    orbits, near `rate` for noise."""
    threshold: float
    """Of `distance`."""


@guarded
def recurrence(
    states: Annotated[Float[Tensor, "iteration ... width"], FINITE], threshold: float = 0.1
) -> Recurrence:
    """Which states of each trajectory are close to which others (Eckmann, Kamphorst & Ruelle 1987).

    >>> float(recurrence(torch.tensor([[0.0], [1.0]]).repeat(10, 1)).determinism)
    1.0

    Arguments:
        threshold: the largest distance that counts as close, as a fraction of the root mean square
            distance of all pairs.

    Raises:
        LoopscopeError: another shape, fewer than three states, or a threshold of 0 or less.
    """
    if not threshold > 0 or states.ndim < 2 or states.shape[0] < 3:
        raise LoopscopeError(
            "recurrence needs trajectories (iteration, ..., width) of 3 states or more and a threshold "
            "above 0, but got "
            f"{tuple(states.shape)} and {threshold!r}. Try 0.1."
        )
    x = states.detach().double().movedim(0, -2)
    n = x.shape[-2]
    distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    level = rounding(x.norm(dim=-1).amax(-1), precision(states))
    close = distance <= level[..., None, None]
    scale = (distance.square().sum((-2, -1)) / (n * (n - 1))).sqrt()
    distance = distance / torch.where(scale > 0, scale, 1)[..., None, None]
    recurs = (distance < threshold) | close
    off = ~torch.eye(n, dtype=torch.bool, device=x.device)
    pair = recurs & off
    pairs = pair.sum((-2, -1)).double()
    next_ = torch.zeros_like(pair)
    next_[..., :-1, :-1] = pair[..., 1:, 1:]
    previous = torch.zeros_like(pair)
    previous[..., 1:, 1:] = pair[..., :-1, :-1]
    in_lines = (pair & (next_ | previous)).sum((-2, -1)).double()
    return Recurrence(distance, recurs, pairs / (n * (n - 1)), in_lines / pairs.clamp(min=1), threshold)
