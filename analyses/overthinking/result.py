"""What an analysis of overthinking gives: the verdict, the numbers, and their summary."""

import math
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.evidence import Estimate
from loopscope.common.text import level, percent, plural
from loopscope.common.verdict import UNCLEAR, Verdict

from .accuracy_change import AccuracyChange, points

MARGIN, LIMIT = 0.02, 0.06
"""Accuracy stays the same if it changes by less than MARGIN, 0..1, and if the interval of the
change leaves less than LIMIT."""


class OverthinkingVerdict(Verdict):
    """What more iterations do to answers."""

    worse = "Overthinking: accuracy falls when the loop runs beyond the model's own depth."
    worse_in_part = (
        "Overthinking in part: beyond the model's own depth accuracy falls at some difficulties, though not "
        "overall."
    )
    peaked = (
        "Overthinking within the model's own depth: accuracy was higher some iterations earlier. Beyond the "
        "model's own depth it stays the same."
    )
    improves = "Accuracy still rises when the loop runs beyond the model's own depth."
    steady = "Accuracy stays the same when the loop runs beyond the model's own depth."
    ended = (
        "The loop ends by itself, once all positions have halted, so that more iterations can't change "
        "its answers."
    )
    unclear = UNCLEAR


@dataclass(frozen=True)
class OverthinkingResult(AnalysisResult):
    """Answers beyond the model's own depth."""

    verdict: OverthinkingVerdict
    depth: int
    """The model's own number of iterations."""
    recorded: int
    """Iterations of the run before it was continued."""
    accuracy: Float[Tensor, " iteration"]
    """Fraction of right answers after k = 0..n iterations (`loopscope.recorder.run_score`)."""
    margin: Float[Tensor, " iteration"]
    """Mean logit margin after k = 0..n iterations."""
    to_wrong: Int[Tensor, " transition"]
    """Answers right after t iterations and wrong after t+1."""
    to_right: Int[Tensor, " transition"]
    """Answers wrong after t iterations and right after t+1."""
    flips: Int[Tensor, " transition"]
    """Answers that change, whether right or wrong."""
    late_flips: int
    """Flips from the model's own depth on."""
    items: int
    examples: int
    growth: AccuracyChange
    """From the model's own depth to the end, on which the verdict is based."""
    drop: AccuracyChange
    """From the best iteration to the end."""
    difficulty: str
    """What the task counts as difficulty."""
    levels: Float[Tensor, " level"]
    """The difficulties that occur, ascending."""
    by_level: Float[Tensor, "level iteration"]
    """Accuracy of the examples of each difficulty."""
    margin_by_level: Float[Tensor, "level iteration"]
    """Mean logit margin of the examples of each difficulty."""
    growths: tuple[AccuracyChange, ...]
    """From the model's own depth to the end at each difficulty. Their intervals hold together with
    95 % (Bonferroni); NaN for fewer than MIN_EXAMPLES examples."""
    how: str
    """How the run was continued."""
    margin_threshold: float = MARGIN
    """Accuracy stays the same only if its change is smaller than this, 0..1."""
    limit_threshold: float = LIMIT
    """Accuracy stays the same only if the interval of its change leaves less than this, 0..1."""

    @property
    def sentence(self) -> str:
        """The verdict; where accuracy stays the same, within how many points that is known."""
        text = super().sentence
        if self.verdict in (OverthinkingVerdict.steady, OverthinkingVerdict.peaked):
            share = points(max(self.growth.margin, self.margin_threshold))
            text += f" These examples say so to within {share} points of accuracy."
        return text

    def summary(self) -> str:
        best = int(self.margin[1:].argmax()) + 1
        rows = list(zip(self.levels.tolist(), self.growths, strict=True))
        falling = [self._change_at(*row) for row in rows if row[1].high < -self.margin_threshold]
        rising = [self._change_at(*row) for row in rows if row[1].low > self.margin_threshold]
        where = "".join(
            f" Accuracy {verb} at {'; '.join(some)}."
            for verb, some in (("falls", falling), ("rises", rising))
            if some
        )
        return (
            f"{self.sentence} {self.how} {self.growth_sentence()}{where} {self.peak_sentence()} "
            f"{plural(self.late_flips, 'answer')} change beyond the model's own depth, right or wrong. "
            f"{self.flips_sentence()} The logit margin is largest after {plural(best, 'iteration')}. "
            f"{self.evidence.how} Intervals are 95 %, from a bootstrap over examples, and allow for "
            f"changes that none of them has. Thresholds: the same within "
            f"{100 * self.margin_threshold:g} points of accuracy, if the interval leaves less than "
            f"{100 * self.limit_threshold:g}."
        )

    def growth_sentence(self) -> str:
        """The change beyond the model's own depth."""
        g = self.growth
        if self.verdict is OverthinkingVerdict.ended:
            return (
                f"Answers correct (of the run's {plural(self.examples, 'example')}, {self.items} answers): "
                f"{percent(g.last)} when the loop ends."
            )
        return (
            f"Answers correct (of the run's {plural(self.examples, 'example')}, {self.items} answers): "
            f"{percent(g.first)} after {plural(g.before[0], 'iteration')}, the model's own depth, and "
            f"{percent(g.last)} after {len(self.accuracy) - 1}; a change of {g.text}, with {g.lost} lost and "
            f"{g.gained} gained. {_changed_sentence(g.changed, self.examples)}"
        )

    def _change_at(self, value: float, change: AccuracyChange) -> str:
        """The change at one difficulty."""
        before, after = percent(change.first), percent(change.last)
        return f"{level(value, self.difficulty)} ({before} to {after}, {change.text})"

    @property
    def marked(self) -> int:
        """The iteration that figures mark: the model's own depth, or where the loop ended."""
        return min(self.depth, len(self.accuracy) - 1)

    @property
    def best(self) -> int:
        """The iteration with the largest accuracy on these examples, the last of several."""
        values = self.accuracy[1:]
        return 1 + int((values == values.max()).nonzero()[-1, 0])

    def flips_sentence(self) -> str:
        """How many answers turn right and wrong: in the first iteration, and in all others."""
        return (
            f"In the first iteration {plural(int(self.to_right[0]), 'answer')} "
            f"{'turns' if int(self.to_right[0]) == 1 else 'turn'} right and {int(self.to_wrong[0])} wrong; "
            f"in the later ones together answers change {plural(int(self.to_wrong[1:].sum()), 'time')} from "
            f"right to wrong and {plural(int(self.to_right[1:].sum()), 'time')} from wrong to right."
        )

    def peak_sentence(self) -> str:
        """The change since the best iteration, which is another comparison: with that of these very
        examples, and with that of others, as the first is too good by its choice."""
        d, n = self.drop, len(self.accuracy) - 1
        peak = float(self.accuracy[self.best])
        if self.best == n:
            text = f"On these examples no iteration is better than the last ({percent(peak)})."
        else:
            change = points(float(self.accuracy[n]) - peak)
            text = (
                f"On these examples accuracy is largest after {plural(self.best, 'iteration')} "
                f"({percent(peak)}), {change} points from there to the end; but chosen on the same examples, "
                "the best iteration looks better than it is."
            )
        if d.before == (n,):
            return f"{text} The same holds if it is chosen on one half of them and used on the other."
        best = " and ".join(str(k) for k in d.before)
        return (
            f"{text} Chosen on one half of them and used on the other ({best}), it is followed by a change "
            f"of {d.text}, with {d.lost} lost and {d.gained} gained."
        )


def _changed_sentence(changed: Estimate, examples: int) -> str:
    if math.isnan(changed.low):
        return ""
    count = round(changed.value * examples)
    return (
        f"{count or 'None'} of the {plural(examples, 'example')} "
        f"{'changes' if count < 2 else 'change'} the number of right answers; of all examples "
        f"{percent(changed.low)} to {percent(changed.high)} do."
    )
