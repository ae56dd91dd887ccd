"""Whether spectral radius, fitted contraction rate and Lyapunov exponent are the same number."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from loopscope.common.text import number, plural
from loopscope.common.verdict import Verdict
from loopscope.maths.contraction_rate import Rate

from .jacobian import Jacobians

FLOOR = -20.0
"""Nats per iteration below which measures count as equal: differences vanish within two
iterations."""
MEASURES = (
    "spectral radius",
    "fitted contraction rate of the example's distance",
    "largest Lyapunov exponent",
)


class Agreement(Verdict):
    """Whether the three measures of contraction agree."""

    agree = "The measures of contraction agree within their errors."
    disagree = "The measures of contraction disagree by more than their errors."
    incomparable = (
        "The measures of contraction can't be compared: they are one quantity only at a fixed point, and no "
        "example is at one with two of them known."
    )


@dataclass(frozen=True)
class Comparison:
    """How the measures of several examples compare."""

    verdict: Agreement
    gap: float
    """Nats per iteration: the largest disagreement beyond what errors allow; 0 if they agree, NaN
    if there is nothing to compare."""
    sentence: str
    """Which measures are known in how many examples, and in how many they agree."""


def agreement_of(
    rows: Sequence[int],
    local: Jacobians,
    exponents: Float[Tensor, "example exponent"],
    errors: Float[Tensor, "example exponent"],
    *,
    rates: Sequence[Rate],
    tolerance: float,
) -> Comparison:
    """Whether the measures agree in some examples.

    Arguments:
        rows: the examples at a fixed point.
        tolerance: fraction of the largest by which the measures may differ.
    """
    measures = [_measures(row, local, exponents, errors, rates[row]) for row in rows]
    gaps = [gap for gap in (_gap(known, tolerance) for known in measures) if gap == gap]
    if not gaps:
        return Comparison(Agreement.incomparable, math.nan, Agreement.incomparable.sentence)
    compared = [known for known in measures if sum(value == value for value, _ in known) > 1]
    counts = [sum(known[i][0] == known[i][0] for known in compared) for i in range(len(MEASURES))]
    names = ", ".join(
        name if k == len(gaps) else f"{name} (in {k})" for name, k in zip(MEASURES, counts, strict=True) if k
    )
    absent = [name for name, k in zip(MEASURES, counts, strict=True) if not k]
    missing = f" No {absent[0]} is known." if absent else ""
    agreeing = sum(gap == 0 for gap in gaps)
    largest = max(gaps)
    where = "elsewhere they" if agreeing else "they"
    beyond = f"; {where} disagree by up to {number(largest)} nats per iteration" if largest else ""
    sentence = (
        f"Measures of contraction agree within their errors in {agreeing or 'none'} of "
        f"{plural(len(gaps), 'example')} at a fixed point or near one: {names}{beyond}.{missing}"
    )
    return Comparison(Agreement.disagree if largest else Agreement.agree, largest, sentence)


def _measures(
    row: int, local: Jacobians, exponents: Tensor, errors: Tensor, rate: Rate
) -> tuple[tuple[float, float], ...]:
    """(value, error) in nats per iteration, in the order of MEASURES; NaN where one isn't known."""
    radius = float(local.radius[row])
    radius_error = float(local.radius_error[row]) / radius if radius > 0 else 0.0
    fitted = (math.log(rate.value), rate.error / rate.value) if rate.value > 0 else (math.nan, 0.0)
    return (
        (
            math.nan if radius != radius else math.log(radius) if radius > 0 else -math.inf,
            _finite(radius_error),
        ),
        fitted,
        (float(exponents[row, 0]), _finite(float(errors[row, 0]))),
    )


def _finite(error: float) -> float:
    return error if math.isfinite(error) else 0.0


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
