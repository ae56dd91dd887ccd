"""Exit methods: an exit rule or a fixed number of iterations, over its threshold and at its
operating point."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.halting.exit_rules import Rule
from loopscope.halting.metrics import (
    Calibration,
    ThresholdCurve,
    calibration,
    correct_at_stop,
    iterations_needed,
    oracle_accuracy,
    overthinking,
    stop_iterations,
    threshold_curve,
    underthinking,
)

DEPTH, MODEL = "depth", "model"
"""Names of the fixed number of iterations and of the model's own halting."""


@dataclass(frozen=True)
class ExitMethod:
    """An exit method over its threshold, and at its operating point: the threshold with the fewest
    iterations, on average, that is about as accurate as full depth."""

    name: str
    """Of the rule; "model" is the model's halting, "depth" a fixed number of iterations."""
    condition: str
    """When it stops, in words."""
    curve: ThresholdCurve
    curve_regret: Float[Tensor, " point"]
    """At each point of the curve."""
    threshold: float
    """At the operating point; the first of several with equally few iterations."""
    iterations: float
    """Mean number of iterations at the operating point."""
    accuracy: float
    """At the operating point, 0..1."""
    oracle_iterations: float
    """Mean number of iterations with which the oracle is as accurate."""
    regret: float
    """At the operating point: the oracle's accuracy with as many iterations minus this one's."""
    underthinking: float
    """Fraction of items stopped wrong though right later."""
    overthinking: float
    """Fraction of items stopped wrong though right earlier."""
    published: tuple[float, float]
    """(mean iterations, accuracy) at the threshold of the rule's source or of the model; NaN for
    depth."""
    calibration: Calibration
    """Of the largest probability where the items stop."""

    @property
    def label(self) -> str:
        """Its name in a sentence."""
        return {MODEL: "the model's own halting", DEPTH: "a fixed depth"}.get(self.name, f"rule {self.name}")


@dataclass(frozen=True)
class Items:
    """What a run answers at every item, after each iteration."""

    right: Bool[Tensor, "iteration item"]
    confidence: Float[Tensor, "iteration item"]
    """The largest probability, 0..1."""

    @property
    def full_depth(self) -> float:
        """Accuracy after all iterations."""
        return float(self.right[-1].double().mean())


def rule_method(
    rule: Rule, score: Float[Tensor, "iteration item"], items: Items, *, margin: float, points: int
) -> tuple[ExitMethod, Int[Tensor, " item"]]:
    """An exit rule over its threshold, and its stops at the operating point.

    Arguments:
        margin: by how much the operating point may be less accurate than full depth.
        points: number of thresholds.
    """
    curve = threshold_curve(score, items.right, points, rule.stops_above)
    threshold = _operating_threshold(curve, items.full_depth - margin)
    stop = stop_iterations(score, -threshold if rule.stops_above else threshold)
    usual = stop_iterations(score, rule.score_threshold, rule.strict)
    published = (1 + float(usual.double().mean()), float(correct_at_stop(items.right, usual).double().mean()))
    method = _at_operating_point(
        (rule.name, rule.condition), curve, threshold, stop, items=items, published=published
    )
    return method, stop


def fixed_depth(items: Items, margin: float) -> ExitMethod:
    """Every item stops after the same number of iterations."""
    n, count = items.right.shape
    k = torch.arange(1, n + 1, dtype=torch.float64)
    curve = ThresholdCurve(k, k, items.right.double().mean(1))
    threshold = _operating_threshold(curve, items.full_depth - margin)
    stop = torch.full((count,), int(threshold) - 1)
    names = (DEPTH, "a fixed number of iterations")
    return _at_operating_point(names, curve, threshold, stop, items=items, published=(math.nan, math.nan))


def _at_operating_point(
    names: tuple[str, str],
    curve: ThresholdCurve,
    threshold: float,
    stop: Int[Tensor, " item"],
    *,
    items: Items,
    published: tuple[float, float],
) -> ExitMethod:
    """What an exit method's stops at its operating point are worth."""
    right = items.right
    mean, hits = 1 + float(stop.double().mean()), correct_at_stop(right, stop)
    accuracy = float(hits.double().mean())
    return ExitMethod(
        name=names[0],
        condition=names[1],
        curve=curve,
        curve_regret=oracle_accuracy(right, curve.iterations) - curve.accuracy,
        threshold=threshold,
        iterations=mean,
        accuracy=accuracy,
        oracle_iterations=iterations_needed(right, accuracy),
        regret=float(oracle_accuracy(right, torch.tensor([mean]))[0]) - accuracy,
        underthinking=float(underthinking(right, stop).double().mean()),
        overthinking=float(overthinking(right, stop).double().mean()),
        published=published,
        calibration=calibration(items.confidence.gather(0, stop[None])[0], hits),
    )


def _operating_threshold(curve: ThresholdCurve, accuracy: float) -> float:
    """The threshold with the fewest iterations that is at least this accurate; there is one, as the
    curve ends at full depth."""
    accurate = curve.accuracy >= accuracy - 1e-9
    cost = torch.where(accurate, curve.iterations, float("inf"))
    return float(curve.thresholds[cost.argmin()])
