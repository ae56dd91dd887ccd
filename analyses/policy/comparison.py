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
    """The rule that was best on each half."""
    rule: tuple[float, float]
    """(mean iterations, accuracy) of the best rule, each half with what the other chose."""
    model: tuple[float, float]


def compare(
    depth: Stops,
    rules: Mapping[str, Stops],
    model: Stops | None,
    items: Float[Tensor, " example"],
    draw: Int[Tensor, " sample"],
    *,
    margin: float,
) -> Comparison:
    """Compare the methods on the examples of a draw.

    Each half of the examples uses the thresholds, and the rule, that need the fewest iterations on
    the other half to come within `margin` of its accuracy after all iterations. The reference then
    gets its best thresholds for the accuracy that was reached, with hindsight, which favours it.

    Arguments:
        depth: its points are k = 1..n.
        items: number of answers of each example.
        draw: indices of examples, some of them repeated.
    """
    count = len(items)
    weight = torch.bincount(draw, minlength=count).double()
    # Alternating examples, as a batch may be sorted; a repeated one stays in its half.
    second = torch.arange(count) % 2 == 1
    halves = [(weight * ~second, weight * second), (weight * second, weight * ~second)]

    def held_out(methods: Mapping[str, Stops]) -> tuple[tuple[float, float], tuple[str, ...]]:
        used, right, names = 0.0, 0.0, []
        for choosing, testing in halves:
            least = {n: _cheapest(s, depth, choosing, items, margin) for n, s in methods.items()}
            name = min(least, key=lambda n: least[n][0])
            point = least[name][1]
            used += float(methods[name].iterations[point] @ testing)
            right += float(methods[name].right[point] @ testing)
            names.append(name)
        total = float(items @ weight)
        return (used / total, right / total), tuple(names)

    nan = float("nan")
    rule, names = held_out(rules)
    gate = held_out({"model": model})[0] if model is not None else (nan, nan)
    accuracy = depth.right @ weight / (items @ weight)
    return Comparison(
        at_once=float(accuracy[0] - accuracy[-1]),
        rule_over_depth=_saving(rule, depth, weight, items),
        model_over_depth=_saving(gate, depth, weight, items) if model is not None else nan,
        rule_over_model=_saving(rule, model, weight, items) if model is not None else nan,
        rules=names,
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


def _saving(method: tuple[float, float], reference: Stops, weight: Tensor, items: Tensor) -> float:
    """The fraction of iterations that a method saves against the fewest of the reference that are
    as accurate, or all of them where none is. Between two points the reference takes either for
    some
    of the answers."""
    total = items @ weight
    cost, order = ((reference.iterations @ weight) / total).sort()
    best = ((reference.right @ weight) / total)[order].cummax(0).values
    iterations, accuracy = method
    reached = (best >= accuracy - 1e-9).nonzero()
    if not len(reached):
        needed = float(cost[-1])
    else:
        i = int(reached[0, 0])
        needed = float(cost[i])
        if i > 0 and float(best[i]) > float(best[i - 1]):
            share = (accuracy - float(best[i - 1])) / (float(best[i]) - float(best[i - 1]))
            needed = float(cost[i - 1]) + min(max(share, 0.0), 1.0) * (needed - float(cost[i - 1]))
    return 1 - iterations / needed
