"""What an analysis of halting gives: the verdict, the numbers, and their summary. Iterations are
counted as iterations run: an answer that halts in its first iteration has run 1."""

import math
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.text import number, percent
from loopscope.common.verdict import UNCLEAR, Verdict

from .variation import Order

CUT, SPREAD, ORDER, RELATED = 0.2, 0.5, 0.9, 0.3
SAME, NEAR = 0.5, 0.8
"""Halting is `constant` from these fractions of answers on."""


class HaltingVerdict(Verdict):
    """What halting differs between."""

    cut = "The run ended before many answers had halted, so it doesn't show when they would."
    constant = (
        "Most answers halt after the same number of iterations, and four of five or more within one "
        "iteration of it."
    )
    positions = "Positions halt after different numbers of iterations; examples, on average, do not."
    examples = "Examples halt after different numbers of iterations; positions, on average, do not."
    both = "Positions halt after different numbers of iterations, and so do examples."
    varied = (
        "Answers halt after different numbers of iterations, but neither positions nor examples differ on "
        "average."
    )
    unclear = UNCLEAR


POSITION_ORDER: dict[Order, str] = {
    "later": "Later positions halt later.",
    "earlier": "Later positions halt earlier.",
    "none": "The positions halt in no order from left to right.",
    "unclear": "Whether later positions halt later is unclear.",
}
NONE_HALTED = "The run ended before any answer had halted, so it doesn't show when they would."
"""In place of the sentence of `cut` where that is so."""
DIFFICULTY_ORDER: dict[Order, str] = {
    "later": "Harder examples halt later.",
    "earlier": "Harder examples halt earlier.",
    "none": "Halting is not related to difficulty.",
    "unclear": "Whether harder examples halt later is unclear.",
}


@dataclass(frozen=True)
class HaltingResult(AnalysisResult):
    """When the answers of a run halted."""

    verdict: HaltingVerdict
    kind: str
    """The halting mechanism, such as "exit gate" or "rule kl"."""
    share: Float[Tensor, " iteration"]
    """Fraction of all answers that halt in iteration t = 0..n-1, after t+1 iterations run; answers
    that never halt count in none."""
    by_position: Float[Tensor, "position iteration"]
    """The same at each position: fraction of the examples that have an answer there; of all
    examples where none has."""
    not_halted: float
    """Fraction of answers that had not halted when the loop ended."""
    others_halted: float
    """Fraction of the positions without an answer that halt; NaN if there are none."""
    together: bool
    """Whether the answers of each example all run as many iterations as each other."""
    mean: float
    """Mean number of iterations run until an answer halts, 1..n."""
    spread: float
    """Its standard deviation over answers, in iterations."""
    deviation: float
    """Its mean absolute deviation from the median over answers, in iterations."""
    same: float
    """Fraction of answers that run as many iterations as the median."""
    near: float
    """Fraction of answers that run as many as the median, or one more or less."""
    position_spread: float
    """Standard deviation between positions, in iterations; NaN for one."""
    example_spread: float
    """Standard deviation between examples, in iterations; NaN for one."""
    mean_by_position: Float[Tensor, " position"]
    """Mean number of iterations run at each position, 1..n, over the examples that have an answer
    there; over all examples where none has."""
    remainder: float
    """Mean remainder R of adaptive computation time, 0..1; NaN for other mechanisms."""
    remainder_by_position: Float[Tensor, " position"]
    cost: float
    """Mean ponder cost N + R of adaptive computation time, 1..n+1: iterations run plus the
    remainder, so that it may exceed n. NaN for other mechanisms."""
    cost_by_position: Float[Tensor, " position"]
    answered: Bool[Tensor, " position"]
    """Positions with an answer; all, if the task is unknown."""
    correlation: float
    """Spearman's rank correlation of the position's effect on the iterations run with the position,
    over the answered ones; NaN where it is constant."""
    position_order: Order
    difficulty: str | None
    """What the task counts as difficulty; None if the task is unknown."""
    levels: Float[Tensor, " level"]
    """The difficulties that occur, ascending."""
    examples: Int[Tensor, " level"]
    """Number of examples of each difficulty."""
    by_level: Float[Tensor, "level iteration"]
    """Fraction of the answers of each difficulty that halt in iteration t = 0..n-1."""
    mean_by_level: Float[Tensor, " level"]
    """Mean iterations run by the answers of each difficulty, 1..n."""
    difficulty_correlation: float
    """Spearman's rank correlation of an example's mean iterations run with its difficulty."""
    difficulty_order: Order
    by_example: Float[Tensor, " batch"]
    """Mean iterations run by each example's answers, 1..n."""
    entropy: float
    """Entropy of the exit distribution in nats, mean over answers; 0 for a mechanism that stops
    after one iteration with certainty."""
    expected: float
    """Mean number of iterations of the exit distribution, mean over answers."""
    share_entropy: float
    """Entropy of the numbers of iterations run over all answers, in nats; those that never halt
    count as one more."""
    cut_threshold: float = CUT
    """The verdict is `cut` if a larger fraction has not halted."""
    spread_threshold: float = SPREAD
    """Positions or examples differ from this standard deviation between them on, in iterations."""
    same_threshold: float = SAME
    """Halting is `constant` only if more answers than this run as many iterations as the median."""
    near_threshold: float = NEAR
    """Halting is `constant` only if at least these run as many, or one more or less."""
    order_threshold: float = ORDER
    """Positions are in order if the correlation's modulus is at least this."""
    related_threshold: float = RELATED
    """Halting is related to difficulty if the correlation's modulus is at least this."""

    @property
    def iterations(self) -> int:
        """n, the iterations of the run."""
        return len(self.share)

    @property
    def sentence(self) -> str:
        """The verdict, with the order of what varies."""
        none = self.verdict is HaltingVerdict.cut and self.not_halted == 1
        parts = [NONE_HALTED if none else super().sentence]
        if self.verdict in (HaltingVerdict.positions, HaltingVerdict.both):
            parts.append(POSITION_ORDER[self.position_order])
        varying = (HaltingVerdict.examples, HaltingVerdict.both)
        if self.verdict in varying and not math.isnan(self.difficulty_correlation):
            parts.append(DIFFICULTY_ORDER[self.difficulty_order])
        return " ".join(parts)

    def summary(self) -> str:
        estimates = "; ".join(f"{e.name} {e.text}" for e in self.evidence.estimates)
        return (
            f"{self.sentence} Halting mechanism: {self.kind}. An answer runs {self.mean:.2f} of "
            f"{self.iterations} iterations until it halts or the loop ends, on average (standard deviation "
            f"{self.spread:.2f}). {percent(self.not_halted)} of the answers had not halted when the loop "
            f"ended.{self.mechanism_sentence()} {self.evidence.how} "
            f"{f'With 95 % intervals: {estimates}. ' if estimates else ''}Thresholds: cut above "
            f"{self.cut_threshold:g} not halted; the same if more than {self.same_threshold:g} run as many "
            f"iterations as the median, and {self.near_threshold:g} or more within one of it; positions or "
            f"examples differ from a "
            f"standard deviation of {self.spread_threshold:g} iterations between them on; ordered by "
            f"position from a rank correlation of {self.order_threshold:g}, related to difficulty from "
            f"{self.related_threshold:g}."
        )

    def mechanism_sentence(self) -> str:
        """What only some mechanisms have: ponder cost, or an exit distribution. Begins with a
        blank."""
        text = ""
        if not math.isnan(self.cost):
            text = (
                f" The ponder cost, iterations plus remainder, is {self.cost:.2f} with a mean remainder of "
                f"{self.remainder:.3f}."
            )
        if self.entropy > 0:
            text += (
                f" The exit distribution of an answer has a mean of {self.expected:.2f} iterations and an "
                f"entropy of {self.entropy:.2f} nats, on average."
            )
        return text

    def position_clause(self) -> str:
        """The end of a sentence on the means by position: how they depend on the position."""
        if not math.isnan(self.correlation):
            return f"; their rank correlation with the position is {number(self.correlation, 3)}"
        means = self.mean_by_position[self.answered]
        if len(means) > 1 and bool((means == means[0]).all()):
            return ": the same at all of them"
        return (
            "; all answers of an example halt together, so these differ by which examples have one there"
            if self.together
            else ""
        )
