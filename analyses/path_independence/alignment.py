"""Alignment of the results of other starts with an example's own end: cosine and relative distance,
overall and by position."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.dynamics.iteration_map import IterationMap
from loopscope.maths.precision import resolution, rounding

from .ends import Ends


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
    rounds: Bool[Tensor, "example start"]
    """Whether ‖result - end‖ is no more than rounding."""
    moved: Float[Tensor, "example start"]
    """How far the last quarter of the iterations moved the result, over ‖result - end‖: how much of
    what is left it could close in as many. NaN where what is left is rounding."""

    @property
    def label(self) -> str:
        """The name in words."""
        names = {"exchanged": "start from another example's state", "zero": "start near zero"}
        return names.get(self.name, f"{self.name} start")

    @property
    def mean(self) -> float:
        """Asymptotic alignment of this kind."""
        return float(self.alignment.mean())

    def same(self, aligned: float, near: float) -> Bool[Tensor, "example start"]:
        """Which starts lead to the same end."""
        return (self.alignment >= aligned) & ((self.gap <= near) | self.rounds)

    def elsewhere(self, aligned: float, near: float, resting: float) -> Bool[Tensor, "example start"]:
        """Which starts lead to another end: they have hardly moved in the last quarter, or
        overflowed."""
        lost = self.gap.isnan()
        return ~self.same(aligned, near) & ((self.moved <= resting) | lost)

    def share(self, aligned: float, near: float) -> float:
        """Fraction of its starts that lead to the same end."""
        return float(self.same(aligned, near).float().mean())


def compare(
    name: str,
    loop: IterationMap,
    ends: Float[Tensor, "example number"],
    results: Ends,
    *,
    away: Float[Tensor, "example start"],
    step: Float[Tensor, " example"],
) -> StartKind:
    """The results of one kind of start against the examples' own ends.

    Arguments:
        results: (example, start, number).
        away: how far each start was from the model's own, in the primary tensor.
        step: one more iteration after the end; 0 where the loop rests.
    """

    def primary(states: Float[Tensor, "example start number"]) -> Float[Tensor, "example start width"]:
        return loop.primary(states.flatten(0, 1)).reshape(*states.shape[:2], -1)

    goal = loop.primary(ends).flatten(1)[:, None]
    result, earlier = primary(results.states), primary(results.earlier)
    size = goal.norm(dim=2).clamp(min=1e-300)
    # If the end is the origin, the remainder of a start has no direction.
    tiny = 1e-6 * float(loop.primary(loop.starts).norm()) / len(ends) ** 0.5
    both = (goal.norm(dim=2) <= tiny) & (result.norm(dim=2) <= tiny)
    none = (result == 0).all(2) | (goal == 0).all(2)  # no direction, so not the same one
    alignment = torch.where(
        both, torch.ones_like(size), torch.where(none, torch.zeros_like(size), cosine(result, goal))
    )
    left = torch.where(both, torch.zeros_like(size), (result - goal).norm(dim=2))
    scale = torch.where(away > 0, torch.minimum(size, away), size)
    scale = torch.where(step[:, None] > 0, torch.minimum(scale, step[:, None]), scale)
    level = rounding(torch.maximum(size, result.norm(dim=2)), resolution(result.dtype))
    moved = (result - earlier).norm(dim=2) / left.clamp(min=1e-300)
    moved = torch.where(left <= level, torch.nan, moved)  # a ratio of rounding
    return StartKind(
        name,
        alignment.float().cpu(),
        (left / size).float().cpu(),
        (left / scale).float().cpu(),
        (left <= level).cpu(),
        moved.float().cpu(),
    )


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
