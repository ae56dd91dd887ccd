"""Recurrence: which states of a trajectory are close to which."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..common.errors import LoopscopeError


@dataclass(frozen=True)
class Recurrence:
    """A recurrence plot (Eckmann, Kamphorst & Ruelle 1987) and what is read from it."""

    distance: Float[Tensor, "... iteration iteration"]
    """‖x_k - x_l‖ over the root mean square distance of all pairs; 0 on the diagonal, about 1 where
    nothing returns."""
    recurs: Bool[Tensor, "... iteration iteration"]
    """Whether that is below the threshold."""
    rate: Float[Tensor, "..."]
    """Fraction of pairs of different states that recur."""
    determinism: Float[Tensor, "..."]
    """Fraction of the recurring pairs whose successors or predecessors recur too: near 1 for
    orbits, near `rate` for noise."""
    threshold: float


def recurrence(states: Float[Tensor, "iteration ... width"], threshold: float = 0.1) -> Recurrence:
    """Which states of each trajectory are close to which.

    Arguments:
        threshold: what counts as close, as a fraction of the root mean square distance of all
            pairs.
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
    scale = (distance.square().sum((-2, -1)) / (n * (n - 1))).sqrt()
    distance = distance / torch.where(scale > 0, scale, 1)[..., None, None]
    recurs = distance < threshold
    off = ~torch.eye(n, dtype=torch.bool, device=x.device)
    own = recurs & off
    pairs = own.sum((-2, -1)).double()
    next_ = torch.zeros_like(own)
    next_[..., :-1, :-1] = own[..., 1:, 1:]
    before = torch.zeros_like(own)
    before[..., 1:, 1:] = own[..., :-1, :-1]
    lined = (own & (next_ | before)).sum((-2, -1)).double()
    return Recurrence(distance, recurs, pairs / (n * (n - 1)), lined / pairs.clamp(min=1), threshold)
