"""Alignment of the results of other starts with an example's own end: cosine and relative distance,
overall and by position."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.dynamics.iteration_map import IterationMap


@dataclass(frozen=True)
class StartKind:
    """Results of one kind of start."""

    name: str
    alignment: Float[Tensor, "example start"]
    """Cosine of the result to the final state from the standard start; NaN where the loop
    overflows."""
    distance: Float[Tensor, "example start"]
    """‖result - end‖ / ‖end‖."""
    gap: Float[Tensor, "example start"]
    """‖result - end‖ over the least of ‖end‖, how far the start was from the model's own, and,
    where the loop still moves, its last step. A constant added to all states doesn't hide it."""

    @property
    def label(self) -> str:
        """The name in words."""
        other = "start from another example's state"
        return other if self.name == "exchanged" else f"{self.name} start"

    @property
    def mean(self) -> float:
        """Asymptotic alignment of this kind."""
        return float(self.alignment.mean())

    def share(self, aligned: float, near: float) -> float:
        """Fraction of its starts that lead to the same end."""
        return float(((self.alignment >= aligned) & (self.gap <= near)).float().mean())


def compare(
    name: str,
    loop: IterationMap,
    ends: Float[Tensor, "example number"],
    results: Float[Tensor, "example start number"],
    *,
    away: Float[Tensor, "example start"],
    step: Float[Tensor, " example"],
) -> StartKind:
    """The results of one kind of start against the examples' own ends.

    Arguments:
        away: how far each start was from the model's own, in the primary tensor.
        step: one more iteration after the end; 0 where the loop rests.
    """
    goal = loop.primary(ends).flatten(1)[:, None]
    result = loop.primary(results.flatten(0, 1)).reshape(*results.shape[:2], -1)
    size = goal.norm(dim=2).clamp(min=1e-300)
    # If the end is the origin, the remainder of a start has no direction.
    tiny = 1e-6 * float(loop.primary(loop.starts).norm()) / len(ends) ** 0.5
    both = (goal.norm(dim=2) <= tiny) & (result.norm(dim=2) <= tiny)
    none = (result == 0).all(2) | (goal == 0).all(2)  # no direction, so not the same one
    alignment = torch.where(
        both, torch.ones_like(size), torch.where(none, torch.zeros_like(size), cosine(result, goal))
    )
    distance = torch.where(both, torch.zeros_like(size), (result - goal).norm(dim=2) / size)
    scale = torch.where(away > 0, torch.minimum(size, away), size)
    scale = torch.where(step[:, None] > 0, torch.minimum(scale, step[:, None]), scale)
    gap = torch.where(both, torch.zeros_like(scale), (result - goal).norm(dim=2) / scale)
    return StartKind(name, alignment.float().cpu(), distance.float().cpu(), gap.float().cpu())


def alignment_by_position(
    loop: IterationMap,
    ends: Float[Tensor, "example number"],
    results: Float[Tensor, "example start number"],
) -> Float[Tensor, "example start position"]:
    """Cosine of each result to the final state from the standard start, position by position."""

    def primary(states: Tensor) -> Tensor:
        flat = loop.primary(states.flatten(0, 1))
        return flat.reshape(*states.shape[:2], *flat.shape[1:])

    return cosine(primary(results), primary(ends[:, None].expand_as(results)))


def contrast_of(ends: Float[Tensor, "example number"]) -> float:
    """Mean cosine between the ends of different examples; NaN for one example."""
    if len(ends) < 2:
        return float("nan")
    unit = ends / ends.norm(dim=1, keepdim=True)
    return float((unit @ unit.T).triu(1).sum() / (len(ends) * (len(ends) - 1) / 2))


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosine over the last axis; NaN where a vector is zero."""
    return (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))
