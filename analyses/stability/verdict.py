"""The verdict on one example: from its fixed point, or from its Lyapunov exponent where it ends at
none."""

import math

from loopscope.common.fate import Fate
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.dynamics.limit_point import Limit

from .jacobian import Jacobians

NON_NORMAL = 1.0


class StabilityVerdict(Verdict):
    """What becomes of small differences."""

    stable = "The loop ends at a stable fixed point: small differences die out in every direction."
    transient = (
        "The loop ends at a stable fixed point, but small differences can grow before they die out "
        "(non-normal growth)."
    )
    marginal = "The loop ends at a fixed point that neither attracts nor repels: the spectral radius is 1."
    unstable = "The loop ends at an unstable fixed point: small differences grow."
    contracting = (
        "The loop ends at no fixed point, but small differences die out along its trajectory, as on an "
        "attracting cycle."
    )
    neutral = (
        "The loop ends at no fixed point, and small differences neither die out nor grow along its "
        "trajectory."
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


FATES: dict[StabilityVerdict, Fate] = {
    StabilityVerdict.stable: "converges",
    StabilityVerdict.transient: "converges",
    StabilityVerdict.marginal: "converges",
    StabilityVerdict.unstable: "converges",
    StabilityVerdict.neutral: "moves",
    StabilityVerdict.expanding: "moves",
    StabilityVerdict.diverging: "grows",
}
"""Contracting states may be on a cycle or still on their way to rest."""


def verdict_of(
    limit: Limit,
    local: Jacobians,
    row: int,
    *,
    at_fixed_point: bool,
    exponent: float,
    error: float,
    margin: float,
    iterations: int,
    comparable: bool,
) -> StabilityVerdict:
    """What becomes of small differences in one example.

    Arguments:
        exponent: the largest Lyapunov exponent, nats per iteration, with its error.
        margin: a spectral radius this near to 1 is marginal, an exponent this near to 0 neutral.
        iterations: over which the exponent is averaged.
        comparable: whether spectral radius and exponent are of one map, and must agree at a fixed
            point.
    """
    if limit.diverges[row]:
        return StabilityVerdict.diverging if limit.started[row] else StabilityVerdict.unresolved
    if not limit.resolved[row]:
        return StabilityVerdict.unresolved
    radius, singular = float(local.radius[row]), float(local.singular_value[row])
    doubt = max(margin, 2 * error)
    # A difference that grows linearly, as between neighbouring orbits, has log(n) / n after n
    # iterations.
    grows, shrinks = exponent > max(doubt, math.log(iterations) / iterations), exponent < -doubt
    if at_fixed_point and radius == radius:
        if comparable and ((grows and radius < 1 - margin) or (shrinks and radius > 1 + margin)):
            return StabilityVerdict.contradictory
        if abs(radius - 1) <= margin:
            return StabilityVerdict.marginal
        if radius > 1:
            return StabilityVerdict.unstable
        return StabilityVerdict.transient if singular > NON_NORMAL + margin else StabilityVerdict.stable
    if exponent != exponent or exponent == math.inf:
        return StabilityVerdict.neutral
    if grows:
        return StabilityVerdict.expanding
    return StabilityVerdict.contracting if shrinks else StabilityVerdict.neutral
