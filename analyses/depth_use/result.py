"""What an analysis of depth use gives: the verdict, the numbers, and their summary."""

import math
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.text import number, percent, plural
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.maths.bootstrap_slope import Slope

from .integration_window import IntegrationWindows

SAME_DEPTH = 0.5
"""Depth is the same for all if the slope's interval leaves fewer iterations than this between the
easiest and the hardest."""
IN_ORDER = 0.5
"""Depth goes with difficulty in its order if a monotone curve has this share or more of the
differences between difficulties."""
MIN_ITEMS = 20
"""Fewer items don't give a slope."""
DEPTH_NAMES = {
    "settled": "Iterations until the answer settles",
    "correct": "Iterations until the answer stays correct",
    "halting": "Iterations until the model halts",
    "window": "End of the integration window",
}


class DepthUseVerdict(Verdict):
    """How the iterations until answers settle depend on difficulty."""

    later = "Answers of harder items settle later."
    same = "Answers of easy and hard items settle within half an iteration of each other, on average."
    earlier = "Answers of harder items settle earlier."
    irregular = (
        "Answers settle after different numbers of iterations at different difficulties, but not in their "
        "order."
    )
    constant = (
        "All final answers are the same token, whatever the input, so when they settle says nothing of "
        "difficulty."
    )
    in_part = (
        "Answers of harder items settle later only because some of them are wrong: those that end correct "
        "settle after the same number of iterations, or earlier."
    )
    unclear = UNCLEAR


Relation = Literal["later", "same", "earlier", "irregular", "never", "unclear"]
"""How one measure of depth goes with difficulty; `never`: no item halts."""
HALTING: dict[Relation, str] = {
    "later": "The model halts later on harder items too: it uses its depth adaptively.",
    "same": "The model halts after about the same number of iterations on easy and on hard items.",
    "earlier": "The model halts earlier on harder items.",
    "irregular": "When the model halts differs between difficulties, but not in their order.",
    "never": "No item halts within the run, so it doesn't show whether the model halts later on harder ones.",
    "unclear": "Whether the model halts later on harder items is unclear.",
}


def relation_of(slope: Slope, span: float, order: tuple[float, float] = (1.0, 0.0)) -> Relation:
    """How depth goes with difficulty: `same` if the slope's whole interval leaves less than
    SAME_DEPTH iterations between the easiest and the hardest; later or earlier if the slope makes
    that difference or more, the rank correlation's whole interval lies on its side of 0, and the
    correlation is beyond those of shuffled difficulties; `irregular` where one of these would hold,
    but more of the differences between difficulties are against their order than in it (for `same`:
    if they amount to SAME_DEPTH iterations); else unclear, as for NaN or few items.

    Arguments:
        span: the largest difficulty minus the smallest.
        order: of `order_share`.
    """
    low, high = slope.correlation_interval
    if slope.items < MIN_ITEMS or math.isnan(slope.low) or math.isnan(slope.high):
        return "unclear"
    zigzag = order[0] < IN_ORDER  # False for NaN
    if max(abs(slope.low), abs(slope.high)) * span < SAME_DEPTH:
        return "irregular" if zigzag and order[1] >= SAME_DEPTH else "same"
    if not slope.is_beyond_chance or abs(slope.slope) * span < SAME_DEPTH:
        return "unclear"
    if (low > 0 and slope.slope > 0) or (high < 0 and slope.slope < 0):
        return "irregular" if zigzag else "later" if slope.slope > 0 else "earlier"
    return "unclear"


@dataclass(frozen=True)
class Depth:
    """One measure of depth for every item, against difficulty."""

    name: str
    """settled, correct, halting or window."""
    iterations: Float[Tensor, " item"]
    """NaN where an item has none."""
    mean_by_level: Float[Tensor, " level"]
    """Mean at each difficulty."""
    half_width: Float[Tensor, " level"]
    """1.96 standard errors of that mean over examples; NaN for fewer than two."""
    slope: Slope
    """Iterations for one unit of difficulty."""
    order: tuple[float, float] = (1.0, 0.0)
    """How much of the differences between difficulties is in their order (`order_share`)."""

    @property
    def slope_text(self) -> str:
        """The slope with its interval."""
        s = self.slope
        return f"{number(s.slope)} ({number(s.low)} to {number(s.high)})"

    @property
    def sentence(self) -> str:
        """Depth at the easiest and the hardest, and the slope."""
        name, s = DEPTH_NAMES[self.name], self.slope
        zigzag = (
            f"; {percent(self.order[0])} of the differences between difficulties are in their order"
            if self.order[0] < 1
            else ""
        )
        if s.items < MIN_ITEMS:
            return f"{name}: available for {s.items} items only, too few for a slope."
        return (
            f"{name}: {number(float(self.mean_by_level[0]))} at the easiest and "
            f"{number(float(self.mean_by_level[-1]))} at the hardest; slope {self.slope_text} iterations per "
            f"unit{self._correlation_text()}{zigzag} ({s.items} items of {s.groups} examples)."
        )

    def _correlation_text(self) -> str:
        s = self.slope
        if math.isnan(s.correlation):
            return ", the same for all items"
        low, high = s.correlation_interval
        by_chance = f"{number(s.shuffled_correlation[0], 2)} to {number(s.shuffled_correlation[1], 2)}"
        return (
            f", rank correlation {number(s.correlation, 2)} ({number(low, 2)} to {number(high, 2)}; by "
            f"chance, with difficulties shuffled, {by_chance})"
        )


@dataclass(frozen=True)
class DepthUseResult(AnalysisResult):
    """Depth against difficulty."""

    verdict: DepthUseVerdict
    by: str
    """"example" or "answer": what an item is."""
    unit: str
    """What difficulty counts."""
    difficulty: Float[Tensor, " item"]
    example: Int[Tensor, " item"]
    depths: tuple[Depth, ...]
    """The first is `settled`, on which the verdict is based."""
    levels: Float[Tensor, " level"]
    """The difficulties that occur."""
    correct: Float[Tensor, " level"] | None
    """Fraction of the items that are correct at the end; None without labels."""
    unsettled: int
    """Items whose answer changes in the last iteration."""
    windows: IntegrationWindows | None
    """None where `max_inputs` is 0."""
    changes_by_level: Float[Tensor, "level k"] | None
    """Fraction of the relevant inputs whose replacement after k changes the answer; NaN where a
    level has none."""
    iterations: int
    halting: Relation | None = None
    """How the iterations until the model halts go with difficulty; None for a model of fixed
    depth."""
    same_threshold: float = SAME_DEPTH
    """Depth is the same for all if the slope's interval leaves fewer iterations than this between
    the easiest and the hardest."""

    @property
    def sentence(self) -> str:
        """The verdict, and what the model does with its depth."""
        if self.verdict is DepthUseVerdict.unclear:
            return super().sentence
        if self.halting is not None:
            return f"{self.verdict.sentence} {HALTING[self.halting]}"
        depth = plural(self.iterations, "iteration")
        return f"{self.verdict.sentence} The model's depth is fixed: it computes {depth} for every item."

    def summary(self) -> str:
        lines = [
            self.sentence,
            f"Difficulty: {self.levels[0]:g} to {self.levels[-1]:g} ({self.unit}).",
            *(depth.sentence for depth in self.depths),
        ]
        if self.windows is not None:
            lines.append(self.windows.sentence)
        if self.correct is not None:
            lines.append(
                f"At the end "
                f"{percent(float(self.correct[0]))} of the items are correct at "
                f"{self.levels[0]:g} ({self.unit}) and {percent(float(self.correct[-1]))} at "
                f"{self.levels[-1]:g}."
            )
        lines.append(
            f"{self.evidence.how} "
            f"{self.unsettled} of {len(self.difficulty)} items still change in the last iteration, of "
            f"{self.iterations}. Threshold: the same depth means a difference of less than "
            f"{self.same_threshold:g} iterations from the easiest to the hardest."
        )
        return " ".join(lines)
