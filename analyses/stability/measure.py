"""Whether small differences die out or grow: spectral radius, Lyapunov exponents and fitted rate of
each example, their agreement, and the verdict."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Complex, Float
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.arguments import Count, Meaning, NotNegative, Positive, PositiveCount, SmallSeed
from loopscope.common.evidence import by_examples
from loopscope.common.fate import Fate
from loopscope.common.text import number
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.limit_point import NEWTON_STEP, Limit, continue_to_limit
from loopscope.maths import exponents as lyapunov_exponents
from loopscope.runs.run import Run
from loopscope.runs.run_mask import require_counted, rows_that_count

from .agreement import Agreement, agreement_of
from .jacobian import jacobians
from .verdict import FATES, StabilityVerdict, verdict_of

_Several = Annotated[int, Ge(10), Meaning("a whole number, 10 or more to average over")]
MARGIN, TOLERANCE = 1e-3, 0.05
_SMALL = 16  # numbers per state up to which thousands of iterations are cheap


@dataclass(frozen=True)
class StabilityResult(AnalysisResult):
    """What becomes of small differences, example by example."""

    verdict: StabilityVerdict
    verdicts: tuple[StabilityVerdict, ...]
    """Of each example."""
    agreement: Agreement
    disagreement: float
    """Nats per iteration: the largest difference between two of the three measures beyond their
    errors; NaN if not comparable."""
    eigenvalues: Complex[Tensor, "example count"]
    """Leading eigenvalues of the Jacobian, by falling modulus."""
    radius: Float[Tensor, " example"]
    """Spectral radius; NaN if it was not found."""
    radius_error: Float[Tensor, " example"]
    """Its rounding error; NaN where it is unknown."""
    singular_value: Float[Tensor, " example"]
    """The Jacobian's largest."""
    exponents: Float[Tensor, "example exponent"]
    """Lyapunov exponents, nats per iteration, by falling size; NaN where the trajectory
    overflows."""
    exponents_error: Float[Tensor, "example exponent"]
    rate: Float[Tensor, " example"]
    """Fitted factor per iteration by which the distance to the fixed point shrinks; NaN without a
    fixed point."""
    rate_error: Float[Tensor, " example"]
    backward_gain: Float[Tensor, " example"]
    """‖J_(n-1) ... J_0‖ over `gain_iterations`."""
    sensitivity: Float[Tensor, " example"]
    """‖(I - J)^-1 J_e‖ at the fixed point; 0 if the loop reads no input, NaN without a fixed
    point."""
    at_fixed_point: tuple[bool, ...]
    """Whether the Jacobian is that at a fixed point, or else at the last state."""
    iteration_index: bool
    """Whether the model receives the iteration index."""
    iterations: int
    """Over which the exponents are averaged."""
    gain_iterations: int
    """Over which the backward gain is taken."""
    notes: tuple[str, ...]
    """How the eigenvalues of each example were computed, or why they were not found."""
    how: str
    """How the limit was found."""
    margin: float
    """A spectral radius this near to 1 is marginal, an exponent this near to 0 neutral."""
    tolerance: float
    """The measures agree when they differ by at most this fraction of the largest, plus twice their
    errors."""

    @property
    def fate(self) -> Fate:
        return FATES.get(self.verdict, "unclear")

    def summary(self) -> str:
        names = [verdict.name for verdict in self.verdicts]
        lines = [self.sentence]
        if self.verdict is StabilityVerdict.mixed:
            counts = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
            lines.append(f"Examples: {counts}.")
        fixed = all(self.at_fixed_point)
        place = "the fixed point" if fixed else "the last state where there is no fixed point"
        leading = complex(self.eigenvalues[0, 0])
        angle = abs(math.degrees(math.atan2(leading.imag, leading.real)))
        turn = f", turning by {number(angle)}° per iteration" if abs(leading.imag) > 1e-9 else ""
        lines.append(
            f"On average over {len(names)} examples the leading eigenvalue at {place} has modulus "
            f"{number(float(self.radius.nanmean()), 4)}{turn}; the largest singular value is "
            f"{number(float(self.singular_value.nanmean()), 4)}, the largest Lyapunov exponent "
            f"{number(float(self.exponents[:, 0].nanmean()), 4)} ± "
            f"{number(float(self.exponents_error[:, 0].nanmean()), 1)} nats per iteration."
        )
        lines.append(self._agreement_sentence())
        lines.append(
            f"{self._gain_sentence()} The fixed point moves by at most "
            f"{number(float(self.sensitivity.nanmean()))} per unit of input."
        )
        if self.iteration_index:
            lines.append(
                "The model receives the iteration index; all maps are those of the iteration after the "
                "run's last."
            )
        lines.append(
            f"{self.how} Exponents over {self.iterations} iterations. Thresholds: marginal within "
            f"{self.margin:g}; agreement within {self.tolerance:g}."
        )
        return " ".join(lines)

    def _gain_sentence(self) -> str:
        gain = float(self.backward_gain.nanmean())
        through = f"Gradients through {self.gain_iterations} iterations are scaled by"
        if gain > 1:
            return f"{through} up to {number(gain)} (they can grow)."
        return f"{through} at most {number(gain)}{' (they shrink)' * (gain < 1)}."

    def _agreement_sentence(self) -> str:
        sentence = self.agreement.sentence
        if self.disagreement != self.disagreement:
            return sentence
        if self.agreement is Agreement.disagree:
            amount = f"{number(self.disagreement)} nats per iteration"
            sentence = sentence.replace("disagree.", f"disagree by {amount}.")
        radius, rate = float(self.radius.log().nanmean()), float(self.rate.log().nanmean())
        return f"{sentence} (log radius {number(radius, 4)}, log rate {number(rate, 4)}.)"


# It is long because it lists every option and every field of the result.
def measure(
    run: Run,
    *,
    examples: PositiveCount = 2,
    count: PositiveCount = 8,
    exponents_count: PositiveCount = 2,
    iterations: _Several | None = None,
    gain: PositiveCount | None = None,
    extra: Count | None = None,
    margin: NotNegative = MARGIN,
    tolerance: Positive = TOLERANCE,
    double: bool = True,
    seed: SmallSeed = 0,
) -> StabilityResult:
    """What becomes of small differences in the loop of a run.

    Arguments:
        examples: how many of the run's examples that count somewhere, from the first on.
        count: eigenvalues.
        exponents_count: Lyapunov exponents.
        iterations: over which exponents are averaged; None: 2,000 for states of 16 numbers or
            fewer, else 64.
        gain: iterations of the backward gain, from the run's first state; None: the run's own, 32
            at most.
        extra: iterations beyond the run in which it may reach its fixed point; None: as many as it
            has, 96 at least.
        margin, tolerance: thresholds; see the result.
        double: compute in double precision where the model allows it.
        seed: of the vectors that searches start from.

    Raises:
        LoopscopeError: there is no example, eigenvalue or exponent, or fewer than 10 iterations.
    """
    require_counted(run)
    counted = rows_that_count(run)[:examples]
    rows = range(len(counted))
    loop, limit = continue_to_limit(run, counted, max(96, run.iterations) if extra is None else extra, double)
    iterations = (2000 if limit.states.shape[2] <= _SMALL else 64) if iterations is None else iterations
    gain = min(32, limit.run_end - limit.first) if gain is None else gain
    # both are distances over the range that the loop covers, so that chaos beside a large constant
    # isn't at the fixed point that lies amidst it
    at_fixed_point = tuple(bool(limit.distance[row] <= NEWTON_STEP) for row in rows)
    local = jacobians(loop, limit, at_fixed_point, count=count, gain=gain, seed=seed)
    exponents, errors = _exponents(loop, limit, iterations, exponents_count, seed=seed)
    rates = [limit.rate(row) for row in rows]
    invariant = loop.is_time_invariant
    verdicts = tuple(
        verdict_of(
            limit,
            local,
            row,
            at_fixed_point=fixed,
            exponent=float(exponents[row, 0]),
            error=float(errors[row, 0].nan_to_num(0.0)),
            margin=margin,
            iterations=iterations,
            comparable=invariant,
        )
        for row, fixed in enumerate(at_fixed_point)
    )
    verdict, evidence = by_examples(
        verdicts,
        mixed=StabilityVerdict.mixed,
        unclear=StabilityVerdict.unclear,
        unresolved=StabilityVerdict.unresolved,
    )
    comparable = [row for row in rows if at_fixed_point[row] and invariant]
    agreement, disagreement = agreement_of(
        comparable, local, exponents, errors, rates=rates, tolerance=tolerance
    )
    return StabilityResult(
        verdict=verdict,
        evidence=evidence,
        verdicts=verdicts,
        agreement=agreement,
        disagreement=disagreement,
        **vars(local),
        exponents=exponents,
        exponents_error=errors,
        rate=torch.tensor([rate.value for rate in rates]),
        rate_error=torch.tensor([rate.error for rate in rates]),
        at_fixed_point=at_fixed_point,
        iteration_index=not invariant,
        iterations=iterations,
        gain_iterations=gain,
        how=limit.how,
        margin=margin,
        tolerance=tolerance,
    )


def _exponents(
    loop: IterationMap, limit: Limit, iterations: int, count: int, *, seed: int
) -> tuple[Float[Tensor, "example exponent"], Float[Tensor, "example exponent"]]:
    """Lyapunov exponents and their errors after the transient: the run itself, and a quarter of the
    iterations."""
    last = limit.states[min(limit.run_end - limit.first, len(limit.states) - 1)]
    start = torch.nan_to_num(last, 0.0, 0.0, 0.0)
    result = lyapunov_exponents(loop, start, iterations, count, transient=iterations // 4, seed=seed)
    diverges = limit.diverges[:, None]
    return torch.where(diverges, torch.nan, result.values), torch.where(diverges, torch.nan, result.error)
