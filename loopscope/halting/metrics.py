"""Stopping: what a rule's stops are worth, for answers that are known to be right or wrong after
every iteration.

An item is one answer: an answered position of an example. `right[t]` says whether it was right
after t+1 iterations, and a stop t means that it was given after t+1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BINS = 10


@dataclass(frozen=True)
class Sweep:
    """A rule over its threshold, from stopping at once to never stopping before the end."""

    thresholds: Float[Tensor, " point"]
    """In the rule's own unit; infinite for the ends."""
    iterations: Float[Tensor, " point"]
    """Mean number of iterations used."""
    accuracy: Float[Tensor, " point"]
    """Fraction of items that are right where they stop."""


@dataclass(frozen=True)
class Calibration:
    """Whether a probability of being right is one: among items that are given 0.8, are 80 %
    right?"""

    edges: Float[Tensor, " edge"]
    """Of the bins, 0..1."""
    count: Int[Tensor, " bin"]
    said: Float[Tensor, " bin"]
    """Mean probability in each bin; NaN where it is empty."""
    right: Float[Tensor, " bin"]
    """Fraction right; NaN where it is empty."""
    error: float
    """Expected calibration error: mean of |said - right| over items, 0..1 (Guo et al. 2017, arXiv
    1706.04599)."""


def stops_at(
    score: Float[Tensor, "iteration item"], bound: float, strict: bool = False
) -> Int[Tensor, " item"]:
    """The first iteration whose score is at or below the bound, and the last where there is
    none."""
    reached = score < bound if strict else score <= bound
    return torch.where(reached.any(0), reached.int().argmax(0), len(score) - 1)


def sweep(
    score: Float[Tensor, "iteration item"],
    right: Bool[Tensor, "iteration item"],
    points: int = 48,
    rises: bool = False,
) -> Sweep:
    """Accuracy and mean iterations of a rule for thresholds at the quantiles of what it scored.

    Arguments:
        score: lower is more settled.
        rises: whether the rule's own quantity is -score.
    """
    finite = score[score.isfinite()].double().unique()  # what many score alike is one threshold
    grid = torch.tensor([float("-inf"), float("inf")], dtype=torch.float64)
    if len(finite):
        grid = torch.cat([grid, finite.quantile(torch.linspace(0, 1, points, dtype=torch.float64))])
    grid = grid.unique()
    stops = [stops_at(score, float(bound)) for bound in grid]
    return Sweep(
        -grid if rises else grid,
        torch.stack([1 + stop.double().mean() for stop in stops]),
        torch.stack([right_at(right, stop).double().mean() for stop in stops]),
    )


def right_at(right: Bool[Tensor, "iteration item"], stop: Int[Tensor, " item"]) -> Bool[Tensor, " item"]:
    """Which items are right where they stop."""
    return right.gather(0, stop[None])[0]


def oracle(right: Bool[Tensor, "iteration item"], mean: Float[Tensor, " point"]) -> Float[Tensor, " point"]:
    """The best accuracy that any stops can have with so many iterations in the mean.

    Everybody stops after one iteration, but where more make an answer right: those that need the
    fewest come first, as long as the iterations last. No rule does better: what it has right takes
    at least until the answer is first right.
    """
    items = right.shape[1]
    extra = right.int().argmax(0)[right.any(0)].sort().values.double()
    spent = extra.cumsum(0)
    budget = ((mean.double() - 1) * items).round(decimals=6)
    return torch.searchsorted(spent, budget, right=True).double() / items


def needed(right: Bool[Tensor, "iteration item"], accuracy: float) -> float:
    """The fewest iterations in the mean with which any stops are so accurate; NaN where none can
    be."""
    items = right.shape[1]
    extra = right.int().argmax(0)[right.any(0)].sort().values.double()
    wanted = round(accuracy * items)
    return float("nan") if wanted > len(extra) else 1 + float(extra[:wanted].sum()) / items


def underthinking(right: Bool[Tensor, "iteration item"], stop: Int[Tensor, " item"]) -> Bool[Tensor, " item"]:
    """Stopped wrong, though the answer is right later."""
    later = torch.arange(len(right))[:, None] > stop
    return ~right_at(right, stop) & (right & later).any(0)


def overthinking(right: Bool[Tensor, "iteration item"], stop: Int[Tensor, " item"]) -> Bool[Tensor, " item"]:
    """Stopped wrong, though the answer had been right before."""
    before = torch.arange(len(right))[:, None] < stop
    return ~right_at(right, stop) & (right & before).any(0)


def calibration(said: Float[Tensor, " item"], right: Bool[Tensor, " item"], bins: int = BINS) -> Calibration:
    """Reliability in bins of equal width.

    Arguments:
        said: the probability that each item is right, 0..1.
    """
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    place = (said.double().clamp(0, 1) * bins).long().clamp(max=bins - 1)
    count = torch.bincount(place, minlength=bins)
    mean = torch.zeros(bins, dtype=torch.float64).index_add(0, place, said.double()) / count
    hits = torch.zeros(bins, dtype=torch.float64).index_add(0, place, right.double()) / count
    gaps = ((mean - hits).abs() * count).nan_to_num().sum() / max(len(said), 1)
    return Calibration(edges, count, mean, hits, float(gaps))
