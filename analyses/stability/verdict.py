"""The verdict on one example: from its fixed point, or from its Lyapunov exponent where it ends at
none. Every quantity has an interval; where that allows two verdicts, it is `unclear`."""

import math
from collections.abc import Sequence
from dataclasses import replace

from loopscope.common.evidence import NEARLY_ALL, Evidence, by_examples, share_interval
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.dynamics.outcome import Outcome

NON_NORMAL = 1.0
"""A difference can grow in one iteration if the largest singular value is above this."""
SEARCHED = 5e-5
"""Relative error of a largest singular value, as it is searched for."""


class StabilityVerdict(Verdict):
    """What becomes of small differences."""

    stable = (
        "The fixed point that the loop reaches or approaches is stable: small differences die out in every "
        "direction."
    )
    transient = (
        "The fixed point that the loop reaches or approaches is stable, but small differences can grow "
        "before they die out (non-normal growth)."
    )
    marginal = (
        "The fixed point that the loop reaches or approaches is neutral: its spectral radius is 1, or so "
        "near to it that small differences hardly die out or grow."
    )
    unstable = "The loop is at an unstable fixed point: small differences grow."
    contracting = (
        "The loop ends at no fixed point within the iterations that were run, yet small differences die out "
        "along its path, exponentially: nearby starts come to follow the same path, which goes on."
    )
    neutral = (
        "The loop ends at no fixed point, and small differences are nearly neutral along its trajectory: "
        "they die out or grow no faster than a power law would have it."
    )
    expanding = (
        "The loop ends at no fixed point, and small differences grow along its trajectory: sensitive "
        "dependence on initial conditions, as in chaos."
    )
    diverging = "The loop diverges: its states grow without bound."
    contradictory = (
        "The measures contradict each other: the loop seems to end at a fixed point that attracts, but the "
        "Lyapunov exponent of its trajectory says that small differences grow, or the other way round."
    )
    unresolved = (
        "The precision of the states can't tell where the loop ends, and so not what becomes of small "
        "differences there."
    )
    mixed = "The examples differ in what becomes of small differences."
    unclear = UNCLEAR


def verdict_of(
    outcome: Outcome,
    *,
    radius: float,
    radius_error: float,
    singular: float,
    exponent: float,
    error: float,
    margin: float,
    iterations: int,
    comparable: bool = True,
) -> StabilityVerdict:
    """What becomes of small differences in one example.

    Arguments:
        outcome: where the example ends.
        radius: the spectral radius there, NaN if it wasn't found; with its error, NaN if unknown,
            infinite where nothing is known.
        singular: the Jacobian's largest singular value there; NaN if it wasn't found.
        exponent: the largest Lyapunov exponent, nats per iteration, with its error.
        margin: a spectral radius this near to 1 is marginal, an exponent this near to 0 neutral.
        iterations: over which the exponent is averaged.
        comparable: whether spectral radius and exponent are of one map, and must agree at a fixed
            point.
    """
    if outcome == "growing":
        return StabilityVerdict.diverging
    if outcome == "unresolved":
        return StabilityVerdict.unresolved
    along = _along_trajectory(exponent, error, margin, iterations)
    if outcome not in ("converged", "approaching", "unstable"):
        return along
    if (
        radius != radius or radius_error == math.inf
    ):  # then the exponent stands for its logarithm, if they are of one map
        known = comparable and exponent == exponent
        radius, radius_error = (
            (math.exp(exponent), math.exp(exponent) * 2 * error) if known else (math.nan, 0)
        )
    doubt = radius_error if radius_error == radius_error else 0.0
    attracts, repels = radius + doubt < 1 - margin, radius - doubt > 1 + margin
    against = (attracts and along is StabilityVerdict.expanding) or (
        repels and along is StabilityVerdict.contracting
    )
    if comparable and against:
        return StabilityVerdict.contradictory
    if repels:
        return StabilityVerdict.unstable
    if attracts:
        return _growth_before_decay(singular, margin)
    return StabilityVerdict.marginal if abs(radius - 1) + doubt <= margin else StabilityVerdict.unclear


def _growth_before_decay(singular: float, margin: float) -> StabilityVerdict:
    """Powers of J stay within 1 if and only if J does."""
    if singular * (1 - SEARCHED) > NON_NORMAL + margin:
        return StabilityVerdict.transient
    fits = singular * (1 + SEARCHED) <= NON_NORMAL + margin  # false for NaN
    return StabilityVerdict.stable if fits else StabilityVerdict.unclear


def _along_trajectory(exponent: float, error: float, margin: float, iterations: int) -> StabilityVerdict:
    if exponent != exponent:
        return StabilityVerdict.unclear
    # a difference that grows linearly, as between neighbouring orbits, has log(n) / n after n
    # iterations, and one that falls as 1 / n, as in a slowing drift, the negative of that
    linear, doubt = max(margin, math.log(iterations) / iterations), 2 * error
    if exponent - doubt > linear:
        return StabilityVerdict.expanding
    if exponent + doubt < -linear:
        return StabilityVerdict.contracting
    equal = abs(exponent) + doubt <= 2 * linear
    return StabilityVerdict.neutral if equal else StabilityVerdict.unclear


def verdict_over(verdicts: Sequence[StabilityVerdict]) -> tuple[StabilityVerdict, Evidence]:
    """The verdict over examples, counted. Differences can grow in a loop where they can in some
    examples, so those that attract count as transient if more than a few are, stable if none is,
    and unclear between."""
    attracting = (StabilityVerdict.stable, StabilityVerdict.transient)
    total, growing = len(verdicts), verdicts.count(StabilityVerdict.transient)
    here = StabilityVerdict.transient if growing else StabilityVerdict.stable
    several = growing == total or share_interval(growing, total)[0] > 1 - NEARLY_ALL
    doubt = bool(growing) and StabilityVerdict.stable in verdicts and not several
    members = {
        "mixed": StabilityVerdict.mixed,
        "unclear": StabilityVerdict.unclear,
        "unresolved": StabilityVerdict.unresolved,
    }
    counted = by_examples(verdicts, **members)[1]
    verdict, evidence = by_examples([here if v in attracting else v for v in verdicts], **members)
    if verdict is here and doubt:
        return StabilityVerdict.unclear, replace(counted, alternatives=attracting)
    return verdict, replace(counted, alternatives=evidence.alternatives)
