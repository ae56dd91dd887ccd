"""What stopping costs and saves, for answers whose correctness after every iteration is known.

An item is one answer: an answer position of an example. `correct[t]` says whether the item is
correct after t+1 iterations, and a stop t means that its answer was taken after t+1.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BINS = 10
_EQUAL = 1e-6
"""Scores that differ by less than this fraction are equal up to rounding."""


@dataclass(frozen=True)
class ThresholdCurve:
    """A rule over its threshold, from stopping at once to never stopping before the end."""

    thresholds: Float[Tensor, " point"]
    """In the rule's own unit; infinite at the ends."""
    iterations: Float[Tensor, " point"]
    """Iterations used, on average over items."""
    accuracy: Float[Tensor, " point"]
    """Fraction of items that are correct where they stop, 0..1."""


@dataclass(frozen=True)
class Calibration:
    """How well probabilities of being correct agree with the fraction that is correct (Guo et al.
    2017, arXiv 1706.04599)."""

    edges: Float[Tensor, " edge"]
    """Of the bins of probability, 0..1."""
    count: Int[Tensor, " bin"]
    """Items in each bin."""
    probability: Float[Tensor, " bin"]
    """Mean probability in each bin; NaN where it is empty."""
    accuracy: Float[Tensor, " bin"]
    """Fraction correct in each bin; NaN where it is empty."""
    error: float
    """Expected calibration error: |probability - accuracy|, on average over items, 0..1."""


def fraction_saved(iterations_used: Int[Tensor, " batch"]) -> float:
    """Fraction of row iterations saved, against running every row as long as the slowest, 0..1."""
    return 1 - float(iterations_used.double().mean() / iterations_used.max().clamp(min=1))


def position_iterations(shapes: Iterable[tuple[int, int]]) -> int:
    """The work of a pass: positions times iterations that were computed.

    Arguments:
        shapes: (rows, positions) of the batch in each iteration.
    """
    return sum(rows * positions for rows, positions in shapes)


def stop_iterations(
    score: Float[Tensor, "iteration item"], threshold: float, strict: bool = False
) -> Int[Tensor, " item"]:
    """The first iteration (0-based) whose score is at or below the threshold, or the last iteration
    where there is none.

    Arguments:
        strict: whether the score must lie below the threshold.
    """
    reached = score < threshold if strict else score <= threshold
    return torch.where(reached.any(0), reached.int().argmax(0), len(score) - 1)


def threshold_curve(
    score: Float[Tensor, "iteration item"],
    correct: Bool[Tensor, "iteration item"],
    points: int = 48,
    stops_above: bool = False,
) -> ThresholdCurve:
    """Accuracy and mean iterations of a rule, with thresholds at the quantiles of its scores.

    Arguments:
        score: lower where the loop has settled more.
        points: thresholds, besides the two ends.
        stops_above: whether the rule's own quantity is -score.
    """
    finite = score[score.isfinite()].double().unique()  # equal scores make one threshold
    if len(finite):
        apart = finite.diff() > _EQUAL * finite[1:].abs()
        finite = finite[torch.cat([torch.ones(1, dtype=torch.bool, device=apart.device), apart])]
    grid = torch.tensor([float("-inf"), float("inf")], dtype=torch.float64)
    if len(finite):
        grid = torch.cat([grid, finite.quantile(torch.linspace(0, 1, points, dtype=torch.float64))])
    grid = grid.unique()
    stops = [stop_iterations(score, float(threshold)) for threshold in grid]
    return ThresholdCurve(
        -grid if stops_above else grid,
        torch.stack([1 + stop.double().mean() for stop in stops]),
        torch.stack([correct_at_stop(correct, stop).double().mean() for stop in stops]),
    )


def correct_at_stop(
    correct: Bool[Tensor, "iteration item"], stop: Int[Tensor, " item"]
) -> Bool[Tensor, " item"]:
    """Which items are correct where they stop."""
    return correct.gather(0, stop[None])[0]


def oracle_accuracy(
    correct: Bool[Tensor, "iteration item"], iterations: Float[Tensor, " point"]
) -> Float[Tensor, " point"]:
    """The best accuracy that any exit policy can reach with this many iterations on average.

    Every item gets one iteration; the remaining budget goes to the items that need the fewest extra
    iterations to become correct. No policy does better, since an item that it has correct takes at
    least as many iterations as it needs to be correct for the first time.
    """
    items = correct.shape[1]
    extra = correct.int().argmax(0)[correct.any(0)].sort().values.double()
    spent = extra.cumsum(0)
    budget = ((iterations.double() - 1) * items).round(decimals=6)
    return torch.searchsorted(spent, budget, right=True).double() / items


def iterations_needed(correct: Bool[Tensor, "iteration item"], accuracy: float) -> float:
    """The fewest iterations, on average over items, with which any exit policy reaches this
    accuracy; NaN where none does."""
    items = correct.shape[1]
    extra = correct.int().argmax(0)[correct.any(0)].sort().values.double()
    target = round(accuracy * items)
    return float("nan") if target > len(extra) else 1 + float(extra[:target].sum()) / items


def underthinking(
    correct: Bool[Tensor, "iteration item"], stop: Int[Tensor, " item"]
) -> Bool[Tensor, " item"]:
    """Items that are wrong where they stop, though correct later."""
    later = torch.arange(len(correct))[:, None] > stop
    return ~correct_at_stop(correct, stop) & (correct & later).any(0)


def overthinking(
    correct: Bool[Tensor, "iteration item"], stop: Int[Tensor, " item"]
) -> Bool[Tensor, " item"]:
    """Items that are wrong where they stop, though they were correct before."""
    before = torch.arange(len(correct))[:, None] < stop
    return ~correct_at_stop(correct, stop) & (correct & before).any(0)


def calibration(
    probability: Float[Tensor, " item"], correct: Bool[Tensor, " item"], bins: int = BINS
) -> Calibration:
    """Reliability of probabilities, in bins of equal width.

    Arguments:
        probability: that each item is correct, 0..1.
    """
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    place = (probability.double().clamp(0, 1) * bins).long().clamp(max=bins - 1)
    count = torch.bincount(place, minlength=bins)
    mean = torch.zeros(bins, dtype=torch.float64).index_add(0, place, probability.double()) / count
    accuracy = torch.zeros(bins, dtype=torch.float64).index_add(0, place, correct.double()) / count
    gaps = ((mean - accuracy).abs() * count).nan_to_num().sum() / max(len(probability), 1)
    return Calibration(edges, count, mean, accuracy, float(gaps))
