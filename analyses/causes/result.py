"""The result of activation patching."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.evidence import Estimate
from loopscope.common.text import percent, plural
from loopscope.core.sites import is_state
from loopscope.patching import AttributionAgreement

from .verdict import FULL, MOST, NO_EFFECT, THIRD, CausesVerdict

SMALL = 0.25
"""A part whose interval lies below this is little of the answer; within this of 1 it is most."""


_NONE = (CausesVerdict.forgotten, CausesVerdict.nothing)
_BY_CONSTRUCTION = (
    "That the state as a whole determines it is so by construction: nothing of the input is read after the "
    "first state."
)
_TRIVIAL = {
    CausesVerdict.gathered: f"Halfway through the loop a single position carries at least {percent(MOST)} of "
    f"the answer: patching that position alone changes it. {_BY_CONSTRUCTION}",
    CausesVerdict.spread: f"Halfway through the loop no single position carries {percent(MOST)} of the "
    f"answer. {_BY_CONSTRUCTION}",
}
"""The verdicts where the input reaches the answer through the state alone."""
_CONTINUED = (
    "Halfway through the loop a state patched in at a single position mostly gives an answer that neither "
    "example has ({share}): the later iterations go on from it, with what their own example's state holds at "
    "the other positions. The whole state gives the other example's answer by construction: nothing of the "
    "input is read after the first state."
)
"""The same where the loop goes on from a patched state, which only a part of it can show."""


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
    third_answers: Float[Tensor, " iteration"]
    """Fraction of the answers that patching all positions turns into one that neither example
    has."""
    best_third_answers: Float[Tensor, " position_iteration"]
    """The same by the best single position of each example."""
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
    """... and a single position carries the answer alone if its effect is this large."""
    no_effect_threshold: float = NO_EFFECT
    """Below this there is no effect."""
    third_threshold: float = THIRD
    """From this fraction on most answers are a third one."""
    tensors: tuple[str, ...] = ()
    """What is patched jointly with all positions."""
    without_donor: int = 0
    """Examples that are left out, as no other example could be their donor."""
    only_state: bool = False
    """Whether the state before the loop determines the answer in every example: the input then
    reaches the answer through the state alone, and a whole effect of all positions is trivial."""
    fall: Estimate | None = None
    """The largest fall of the whole state's effect from one iteration to a later one; None where it
    may be none."""

    @property
    def sentence(self) -> str:
        """The verdict, with the size of a part; what the whole state brings is no part of it where
        that is so by construction."""
        text, i = super().sentence, self.iterations.index(self.middle)
        if self.only_state and self.verdict in _TRIVIAL:
            return _TRIVIAL[self.verdict]
        if self.only_state and self.verdict is CausesVerdict.continued:
            share = float(self.best_third_answers[self.position_iterations.index(self.middle)])
            return _CONTINUED.format(share=f"{percent(share)} by the best one")
        if self.verdict is CausesVerdict.continued:
            return text.replace("that neither example has", f"that neither example has ({self._thirds})")
        if self.verdict is not CausesVerdict.partly:
            return text
        if float(self.third_answers[i]) >= self.no_effect_threshold:
            text = text.replace(
                "undo the rest",
                f"undo the rest, or make of it an answer that neither example has ({self._thirds})",
            )
        low, high = self.whole_interval[i].tolist()
        size = "little" if high <= SMALL else "most" if low >= 1 - SMALL else "part"
        return text.replace(
            "brings part of the other example's answer",
            f"brings {size} of the other example's answer (normalised effect {self.whole_at_middle})",
        )

    def remarks(self) -> str:
        """What else the effects of the whole state say, as sentences; empty for nothing."""
        left = self.depth - self.middle
        parts = []
        if self.only_state:
            parts.append(
                "The state before the loop determines the answer: the input reaches the answer through "
                "the state alone, so that patching all positions has its whole effect after any number of "
                "iterations. Over how many positions it is spread is not trivial."
            )
        i, j = self.iterations.index(self.middle), self.position_iterations.index(self.middle)
        if float(self.best_interval[j, 0]) > float(self.whole_interval[i, 1]) and self.verdict not in _NONE:
            parts.append(
                f"The best single position brings more ({self.best_at_middle}) than the whole state "
                f"({self.whole_at_middle}): an effect isn't bounded by 1, and what other positions bring can "
                "work against it."
            )
        if self.fall is not None:
            between = self.fall.name.split(" from ")[-1].replace(" to ", f" to {self.counter} = ")
            parts.append(
                f"The effect doesn't only rise: from {self.counter} = {between} it falls by {self.fall.text}."
            )
        if self.verdict is CausesVerdict.partly:
            parts.append(
                f"A part is what is left after the {plural(left, 'iteration')} that follow: with more of "
                "them it may vanish, as it must where the loop is path-independent. The control is the same "
                "patch in a longer run."
            )
        return " ".join(parts)

    @property
    def _thirds(self) -> str:
        """How often the answer becomes a third one at `middle`, by the whole state and by the best
        position."""
        i, j = self.iterations.index(self.middle), self.position_iterations.index(self.middle)
        whole, best = float(self.third_answers[i]), float(self.best_third_answers[j])
        return f"{percent(whole)} by the whole state, {percent(best)} by the best single position"

    @property
    def _third(self) -> str:
        """Where patching gives answers that neither example has; empty for nowhere."""
        tables = []
        for name, ks, values in (
            ("the whole state", self.iterations, self.third_answers),
            ("the best position", self.position_iterations, self.best_third_answers),
        ):
            if bool((values >= self.no_effect_threshold).any()):
                cells = zip(ks, values.tolist(), strict=True)
                row = "; ".join(f"{self.counter} = {k}: {percent(value)}" for k, value in cells)
                tables.append(f"by {name} {row}")
        return f" Answers that neither example has: {', and '.join(tables)}." if tables else ""

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
        joint = f" (jointly {', '.join(self.tensors)})" if len(self.tensors) > 1 else ""
        without = f" (no donor with another answer for {self.without_donor})" if self.without_donor else ""
        return (
            f"{self.sentence} '{self.site}'{joint} of {self.source} is patched in, in "
            f"{plural(self.examples, 'example')}{without} of {self.depth} iterations and "
            f"{plural(len(self.positions), 'position')}, judged by {self.answers}. Normalised effect (0 "
            f"none, 1 the donor's answer; 95 % intervals over examples) of the whole state: {whole}. Of the "
            f"best single position of each example, {self.choice}: {best}.{estimated}{self._third} The "
            f"verdict is about {k} = {self.middle}: the state determines the answer from an effect of "
            f"{self.full_threshold:g} on, a single position carries it alone from "
            f"{self.most_threshold:g} on; below {self.no_effect_threshold:g} there is no effect; the loop "
            f"goes on from it where a third answer comes in {self.third_threshold:g} or more."
            f"{' ' * bool(self.remarks())}{self.remarks()}"
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
