"""What an analysis of stability gives: the verdict, the numbers, and their summary."""

import math
from dataclasses import dataclass

from jaxtyping import Complex, Float
from torch import Tensor

from loopscope.common.text import number, plural
from loopscope.dynamics.outcome_result import OutcomeResult

from .agreement import Agreement
from .verdict import StabilityVerdict


@dataclass(frozen=True)
class StabilityResult(OutcomeResult):
    """What becomes of small differences, example by example."""

    verdict: StabilityVerdict
    verdicts: tuple[StabilityVerdict, ...]
    agreement: Agreement
    agreement_sentence: str
    """Which measures of contraction are known, in how many examples, and in how many they agree."""
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
    """‖J_(n-1) ... J_0‖ over `gain_iterations`; NaN where it wasn't computed."""
    sensitivity: Float[Tensor, " example"]
    """‖(I - J)^-1 J_e‖ at the fixed point; 0 if the loop reads no input, NaN without a fixed point,
    or where it wasn't computed."""
    at_fixed_point: tuple[bool, ...]
    """Whether the Jacobian is that at the fixed point where the example ends, or which it
    approaches; else it is that at the last state."""
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
    def contracting(self) -> tuple[int, ...]:
        pairs = zip(self.rows, self.verdicts, strict=True)
        return tuple(row for row, verdict in pairs if verdict is StabilityVerdict.contracting)

    @property
    def caveat(self) -> str:
        return self.agreement_sentence if self.agreement is Agreement.disagree else ""

    def summary(self) -> str:
        lines = [self.sentence, self.evidence.how, *self._fixed_point_sentences(), self._exponent_sentence()]
        lines += [self.agreement_sentence, self._gain_sentence()]
        if self.iteration_index:
            lines.append(
                "The model receives the iteration index; all maps are those of the iteration after the "
                "run's last."
            )
        lines.append(
            f"{self.how} Exponents over {self.iterations} iterations. Thresholds: marginal within "
            f"{self.margin:g}; agreement within {self.tolerance:g}."
        )
        return " ".join(line for line in lines if line)

    def _fixed_point_sentences(self) -> list[str]:
        """Spectral radius, angle and singular value of the examples at a fixed point, and the input
        sensitivity."""
        here = [row for row, fixed in enumerate(self.at_fixed_point) if fixed]
        if not here:
            return []
        estimates = {e.name.split(",")[0]: e.text for e in self.evidence.estimates}
        radius = estimates.get("spectral radius at the fixed point", "unknown")
        singular = estimates.get("largest singular value at the fixed point", "unknown")
        leading = complex(self.eigenvalues[here[0], 0])
        angle = abs(math.degrees(math.atan2(leading.imag, leading.real)))
        turns = abs(leading.imag) > 1e-9
        turn = f", its leading eigenvalue turning by {number(angle)}° per iteration" if turns else ""
        lines = [
            f"Spectral radius at the fixed point: {'median ' * (len(here) > 1)}{radius} over "
            f"{plural(len(here), 'example')}"
            f"{f' (example {self.rows[here[0]]}{turn})' if turn else ''}; largest singular value there: "
            f"{'median ' * (len(here) > 1)}{singular}."
        ]
        known = self.sensitivity[~self.sensitivity.isnan()]
        if len(known):
            lines.append(
                f"Input sensitivity: per unit of input the fixed point moves by "
                f"{number(float(known.mean()))} at most, on average over {plural(len(known), 'example')}."
            )
        return lines

    def _exponent_sentence(self) -> str:
        known = ~self.exponents[:, 0].isnan()
        if not bool(known.any()):
            return ""
        median = next(e.text for e in self.evidence.estimates if "Lyapunov" in e.name)
        error = number(float(self.exponents_error[known, 0].nanmean()), 1)
        return (
            f"Largest Lyapunov exponent: median {median} nats per iteration over "
            f"{plural(int(known.sum()), 'example')}, each ± {error} on average."
        )

    def _gain_sentence(self) -> str:
        known = self.backward_gain[~self.backward_gain.isnan()]
        if not len(known):
            return ""
        gain, iterations = float(known.mean()), plural(self.gain_iterations, "iteration")
        through = f"Gradients through {iterations} are scaled by"
        over = f"on average over {plural(len(known), 'example')}"
        if gain > 1:
            return f"{through} up to {number(gain)}, {over} (they can grow)."
        return f"{through} at most {number(gain)}, {over}{' (they shrink)' * (gain < 1)}."
