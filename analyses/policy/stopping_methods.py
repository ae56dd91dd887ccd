"""Ways of stopping: a rule, or a fixed number of iterations, over its threshold and at its
operating point."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

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
from loopscope.halting.rule import Rule


@dataclass(frozen=True)
class Way:
    """One way of stopping."""

    name: str
    """Of the rule; "model" is the model's, "depth" a fixed number of iterations."""
    says: str
    curve: ThresholdCurve
    regret: Float[Tensor, " point"]
    """At each point of the curve."""
    threshold: float
    """At the operating point; of several with as few iterations the first."""
    iterations: float
    """There, in the mean."""
    accuracy: float
    """There."""
    oracle_iterations: float
    """What the oracle needs to be as accurate."""
    lost: float
    """Regret there."""
    under: float
    over: float
    published: tuple[float, float]
    """(mean iterations, accuracy) at the threshold of the rule's source or of the model; NaN for
    depth."""
    calibration: Calibration
    """Of the largest probability at the operating point's stops."""


def way_of(
    rule: Rule, score: Tensor, right: Tensor, sure: Tensor, *, full: float, margin: float, points: int
) -> tuple[Way, Tensor]:
    """A rule over its threshold, and its stops at the operating point."""
    curve = threshold_curve(score, right, points, rule.stops_above)
    threshold = _operating(curve, full - margin)
    bound = -threshold if rule.stops_above else threshold
    stop = stop_iterations(score, bound)
    usual = stop_iterations(score, rule.score_threshold, rule.strict)
    published = (1 + float(usual.double().mean()), float(correct_at_stop(right, usual).double().mean()))
    return _way(
        rule.name, rule.condition, curve, threshold, stop=stop, right=right, sure=sure, published=published
    ), stop


def depth(right: Tensor, sure: Tensor, full: float, margin: float) -> Way:
    """Everybody stops after the same number of iterations."""
    k = torch.arange(1, len(right) + 1, dtype=torch.float64)
    curve = ThresholdCurve(k, k, right.double().mean(1))
    threshold = _operating(curve, full - margin)
    stop = torch.full((right.shape[1],), int(threshold) - 1)
    nan = (float("nan"), float("nan"))
    return _way(
        "depth",
        "a fixed number of iterations",
        curve,
        threshold,
        stop=stop,
        right=right,
        sure=sure,
        published=nan,
    )


def _way(
    name: str,
    says: str,
    curve: ThresholdCurve,
    threshold: float,
    *,
    stop: Tensor,
    right: Tensor,
    sure: Tensor,
    published: Any,
) -> Way:
    mean, hits = 1 + float(stop.double().mean()), correct_at_stop(right, stop)
    accuracy = float(hits.double().mean())
    return Way(
        name=name,
        says=says,
        curve=curve,
        regret=oracle_accuracy(right, curve.iterations) - curve.accuracy,
        threshold=threshold,
        iterations=mean,
        accuracy=accuracy,
        oracle_iterations=iterations_needed(right, accuracy),
        lost=float(oracle_accuracy(right, torch.tensor([mean]))[0]) - accuracy,
        under=float(underthinking(right, stop).double().mean()),
        over=float(overthinking(right, stop).double().mean()),
        published=published,
        calibration=calibration(sure.gather(0, stop[None])[0], hits),
    )


def _operating(curve: ThresholdCurve, accuracy: float) -> float:
    """The threshold with the fewest iterations that is so accurate; the one that never stops is."""
    good = curve.accuracy >= accuracy - 1e-9
    cost = torch.where(good, curve.iterations, float("inf"))
    return float(curve.thresholds[cost.argmin()])
