"""Whether spectral radius, fitted contraction rate and Lyapunov exponent are the same number."""

import math
from collections.abc import Iterable, Sequence

from jaxtyping import Float
from torch import Tensor

from loopscope.common.verdict import Verdict
from loopscope.maths.contraction_rate import Rate

from .jacobian import Jacobians

FLOOR = -20.0
"""Nats per iteration below which measures count as equal: differences vanish within two
iterations."""


class Agreement(Verdict):
    """Whether the three measures of contraction agree."""

    agree = "Spectral radius, fitted rate and Lyapunov exponent agree."
    disagree = "Spectral radius, fitted rate and Lyapunov exponent disagree."
    incomparable = (
        "The loop ends at no fixed point, so spectral radius, rate and exponent measure different things."
    )


def agreement_of(
    rows: Sequence[int],
    local: Jacobians,
    exponents: Float[Tensor, "example exponent"],
    errors: Float[Tensor, "example exponent"],
    *,
    rates: Sequence[Rate],
    tolerance: float,
) -> tuple[Agreement, float]:
    """Whether the measures agree in some examples, and the largest disagreement in nats per
    iteration; NaN if there is nothing to compare.

    Arguments:
        rows: the examples at a fixed point.
        tolerance: fraction of the largest by which the measures may differ.
    """
    gaps = []
    for row in rows:
        radius, rate = local.radius[row], rates[row]
        radius_error = float((local.radius_error[row] / radius).nan_to_num(0.0, 0.0, 0.0))
        measures = (
            (math.log(radius) if radius > 0 else -math.inf, radius_error),
            (math.log(rate.value), rate.error / rate.value) if rate.value > 0 else (math.nan, 0.0),
            (float(exponents[row, 0]), float(errors[row, 0].nan_to_num(0.0))),
        )
        gaps.append(_gap(measures, tolerance))
    finite = [gap for gap in gaps if gap == gap]
    if not finite:
        return Agreement.incomparable, math.nan
    return (Agreement.disagree if max(finite) > 0 else Agreement.agree), max(finite)


def _gap(measures: Iterable[tuple[float, float]], tolerance: float) -> float:
    """The largest difference between (value, error) pairs beyond what is allowed, in nats per
    iteration; 0 if they agree, NaN with fewer than two."""
    finite = [
        (max(value, FLOOR), error if value > FLOOR else 0.0) for value, error in measures if value == value
    ]
    largest = math.nan if len(finite) < 2 else 0.0
    for i, (a, a_error) in enumerate(finite):
        for b, b_error in finite[i + 1 :]:
            allowed = tolerance * max(abs(a), abs(b)) + 2 * math.hypot(a_error, b_error)
            gap = abs(a - b)
            largest = max(largest, gap if gap > allowed + 1e-3 else 0.0)
    return largest
