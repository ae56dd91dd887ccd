"""The result of activation patching."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.text import plural
from loopscope.core.sites import is_state
from loopscope.patching import AttributionAgreement

from .verdict import FULL, MOST, NO_EFFECT, CausesVerdict


@dataclass(frozen=True)
class CausesResult(AnalysisResult):
    """Effects of patching states of another example."""

    verdict: CausesVerdict
    site: str
    iterations: tuple[int, ...]
    """Where the whole state was patched: k of `state`, t of a site inside the body."""
    middle: int
    """The one of them that the verdict is about."""
    whole_state: Float[Tensor, " iteration"]
    """Normalised effect of patching all positions (0 none, 1 the donor's answer)."""
    whole_interval: Float[Tensor, "iteration 2"]
    """Its 95 % interval over examples, low and high; NaN for a single example."""
    positions: tuple[int, ...]
    position_iterations: tuple[int, ...]
    """Where single positions were patched; among them `middle`."""
    effect: Float[Tensor, "position_iteration position"]
    """Normalised effect of patching one position; means over examples."""
    best_position: Float[Tensor, " position_iteration"]
    """Normalised effect of the best single position of each example."""
    best_interval: Float[Tensor, "position_iteration 2"]
    """Its 95 % interval over examples, low and high."""
    second_donors: int
    """In how many examples the best position was chosen with another donor than its effect was
    measured with. In the others its effect is the largest of all positions, an upper bound."""
    effective_positions: Float[Tensor, " position_iteration"]
    """Over how many positions the effects are spread, as a participation ratio; NaN where there is
    no effect."""
    depth: int
    """Iterations of each pass."""
    examples: int
    """Pairs of an example and its donor."""
    source: str
    """Where the patched states come from, in words."""
    method: str
    agreement: AttributionAgreement | None
    """Of attribution with exact patches; None for exact patches."""
    metric: str
    answers: str
    """Which answers are judged, in words."""
    full_threshold: float = FULL
    """The state determines the answer if its effect is this large ..."""
    most_threshold: float = MOST
    """... and a single position carries most of it if its effect is this large."""
    no_effect_threshold: float = NO_EFFECT
    """Below this there is no effect."""

    @property
    def counter(self) -> str:
        """How iterations are counted: "k", iterations run, or "t", of a site inside the body."""
        return "k" if is_state(self.site) else "t"

    @property
    def whole_at_middle(self) -> str:
        """The effect of the whole state at `middle` with its interval, such as "0.25 (0.16 to
        0.36)"."""
        i = self.iterations.index(self.middle)
        return effect_text(float(self.whole_state[i]), self.whole_interval[i].tolist())

    @property
    def best_at_middle(self) -> str:
        """The same of the best single position."""
        i = self.position_iterations.index(self.middle)
        return effect_text(float(self.best_position[i]), self.best_interval[i].tolist())

    @property
    def choice(self) -> str:
        """How the best positions were chosen, in words."""
        if self.second_donors == self.examples:
            return "chosen with one donor and measured with another"
        if not self.second_donors:
            return "chosen with the donor that it is measured with, so an upper bound"
        others = plural(self.examples - self.second_donors, "example")
        return f"chosen with one donor and measured with another, but with the same in {others}"

    def summary(self) -> str:
        k = self.counter
        whole = _table(k, self.iterations, self.whole_state, self.whole_interval)
        best = _table(k, self.position_iterations, self.best_position, self.best_interval)
        estimated = (
            ""
            if self.agreement is None
            else " Effects of single positions are first-order estimates, whose correlation with exact "
            f"patches is {self.agreement.correlation:.2f} on {self.agreement.cells} cells."
        )
        return (
            f"{self.sentence} '{self.site}' of {self.source} is patched in, in "
            f"{plural(self.examples, 'example')} of {self.depth} iterations and "
            f"{plural(len(self.positions), 'position')}, judged by {self.answers}. Normalised effect (0 "
            f"none, 1 the donor's answer; 95 % intervals over examples) of the whole state: {whole}. Of the "
            f"best single position of each example, {self.choice}: {best}.{estimated} The verdict is "
            f"about {k} = {self.middle}: the state determines the answer from an effect of "
            f"{self.full_threshold:g} on, a single position carries most of it from "
            f"{self.most_threshold:g} on; below {self.no_effect_threshold:g} there is no effect."
        )


def effect_text(value: float, interval: Sequence[float]) -> str:
    """An effect with its interval, such as "0.25 (0.16 to 0.36)"."""
    low, high = interval
    if value != value:
        return "unknown"
    return _rounded(value) if low != low else f"{_rounded(value)} ({_rounded(low)} to {_rounded(high)})"


def _table(counter: str, iterations: Sequence[int], values: Tensor, intervals: Tensor) -> str:
    cells = zip(iterations, values.tolist(), intervals.tolist(), strict=True)
    return "; ".join(f"{counter} = {k}: {effect_text(value, interval)}" for k, value, interval in cells)


def _rounded(value: float) -> str:
    return f"{round(value, 2) + 0:.2f}"  # + 0: no minus before a zero
