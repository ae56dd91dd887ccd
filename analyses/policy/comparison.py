"""Exit methods compared on examples that did not choose their thresholds, as a function of the
examples."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Stops:
    """An exit method at each of its thresholds."""

    iterations: Float[Tensor, "point example"]
    """Iterations run, summed over the answers of each example."""
    right: Float[Tensor, "point example"]
    """Answers right where they stop, of each example."""


@dataclass(frozen=True)
class Comparison:
    """The savings of early exit at equal accuracy, as fractions of iterations; NaN for a method
    that there is not."""

    at_once: float
    """Accuracy after one iteration minus that after all."""
    rule_over_depth: float
    """Of the best rule, against a fixed depth."""
    model_over_depth: float
    """Of the model's own halting, against a fixed depth."""
    rule_over_model: float
    """Of the best rule, against the model's own halting."""
    rules: tuple[str, ...]
    """The rule that was best on each half, which the other half uses."""
    rule: tuple[float, float]
    """(mean iterations, accuracy) of the best rule, each half with what the other chose."""
    model: tuple[float, float]


Choice = tuple[tuple[str, int], tuple[str, int]]
"""The method and its point that each half of the examples chose: the first half's, the second's."""


def choose(
    depth: Stops, methods: Mapping[str, Stops], items: Float[Tensor, " example"], *, margin: float
) -> Choice:
    """The method and threshold that need the fewest iterations on each half of the examples to come
    within `margin` of its accuracy after all iterations.

    Arguments:
        depth: its points are k = 1..n.
        items: number of answers of each example.
    """
    chosen = []
    for half in _halves(len(items)):
        least = {name: _cheapest(one, depth, half, items, margin) for name, one in methods.items()}
        name = min(least, key=lambda name: least[name][0])
        chosen.append((name, least[name][1]))
    return chosen[0], chosen[1]


def _halves(count: int) -> tuple[Tensor, Tensor]:
    """Alternating examples, as a batch may be sorted: the first half, and the second."""
    second = torch.arange(count) % 2 == 1
    return (~second).double(), second.double()


def compare(
    depth: Stops,
    rules: Mapping[str, Stops],
    model: Stops | None,
    items: Float[Tensor, " example"],
    draw: Int[Tensor, " sample"],
    *,
    rule_choice: Choice,
    model_choice: Choice | None,
    margin: float,
) -> Comparison:
    """Compare the methods on the examples of a draw.

    Each half of the examples uses what the other half chose (`choose`). The reference then gets the
    best mix of its thresholds for the accuracy that was reached less `margin`, with hindsight,
    which favours it.

    Arguments:
        draw: indices of examples, some of them repeated.
    """
    weight = torch.bincount(draw, minlength=len(items)).double()
    total, halves = float(items @ weight), _halves(len(items))

    def held_out(methods: Mapping[str, Stops], choice: Choice) -> tuple[float, float]:
        used = right = 0.0
        for (name, point), half in zip(choice, reversed(halves), strict=True):
            used += float(methods[name].iterations[point] @ (weight * half))
            right += float(methods[name].right[point] @ (weight * half))
        return used / total, right / total

    nan = float("nan")
    rule, gate = held_out(rules, rule_choice), (nan, nan)
    gate_over_depth = rule_over_gate = nan
    if model is not None and model_choice is not None:
        gate = held_out({name: model for name, _ in model_choice}, model_choice)
        gate_over_depth = _saving(gate, depth, weight, items, margin)
        rule_over_gate = _saving(rule, model, weight, items, margin)
    accuracy = depth.right @ weight / total
    return Comparison(
        at_once=float(accuracy[0] - accuracy[-1]),
        rule_over_depth=_saving(rule, depth, weight, items, margin),
        model_over_depth=gate_over_depth,
        rule_over_model=rule_over_gate,
        rules=(rule_choice[0][0], rule_choice[1][0]),
        rule=rule,
        model=gate,
    )


def _cheapest(stops: Stops, depth: Stops, weight: Tensor, items: Tensor, margin: float) -> tuple[float, int]:
    """(mean iterations, point) of the cheapest point within the margin of full depth."""
    total = float(items @ weight)
    if total == 0:
        return float("inf"), len(stops.right) - 1
    accurate = (stops.right @ weight) / total >= float(depth.right[-1] @ weight) / total - margin - 1e-9
    cost = torch.where(accurate, (stops.iterations @ weight) / total, torch.inf)
    return float(cost.min()), int(cost.argmin())


def _saving(
    method: tuple[float, float], reference: Stops, weight: Tensor, items: Tensor, margin: float
) -> float:
    """The fraction of iterations that a method saves against the fewest with which the reference
    comes within `margin` of its accuracy, or against all of them where it doesn't."""
    total = items @ weight
    iterations, accuracy = method
    cost, right = (reference.iterations @ weight) / total, (reference.right @ weight) / total
    return 1 - iterations / fewest_iterations(cost, right, accuracy - margin)


def fewest_iterations(cost: Float[Tensor, " point"], accuracy: Float[Tensor, " point"], goal: float) -> float:
    """The fewest iterations, on average, with which a method reaches an accuracy if it may take any
    two of its thresholds, either for some of the answers: on the upper concave hull of its points.
    The most iterations of a point where none reaches it.

    >>> fewest_iterations(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.2, 0.3, 0.8]), 0.5)
    2.0
    """
    enough = accuracy >= goal - 1e-9
    if not bool(enough.any()):
        return float(cost.max())
    least = float(cost[enough].min())
    low, high = (~enough).nonzero()[:, 0], enough.nonzero()[:, 0]
    if not len(low):
        return least
    share = (goal - accuracy[low, None]) / (accuracy[high] - accuracy[low, None])
    mixed = cost[low, None] + share.clamp(0, 1) * (cost[high] - cost[low, None])
    return min(least, float(mixed.min()))
