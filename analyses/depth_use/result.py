"""What an analysis of depth use gives: the verdict, the numbers, and their summary."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.text import number, percent
from loopscope.common.verdict import Verdict
from loopscope.maths.bootstrap_slope import Slope

from .integration_window import IntegrationWindows

SAME_DEPTH = 0.5
"""Depth is the same for all if the slope's interval leaves fewer iterations than this between the
easiest and the hardest."""
MIN_ITEMS = 20
"""Fewer items don't give a slope."""
DEPTH_NAMES = {
    "settled": "Iterations until the answer settles",
    "correct": "Iterations until the answer stays correct",
    "halting": "Iterations until the model halts",
    "window": "End of the integration window",
}


class DepthUseVerdict(Verdict):
    """How depth depends on difficulty."""

    adaptive = "Harder items take more iterations: the model uses its depth adaptively."
    same = "All items take the same number of iterations, whatever their difficulty."
    reverse = "Harder items take fewer iterations."
    in_part = "Harder items take longer to settle, but not clearly so among the items that end correct."
    unclear = (
        "Whether harder items take more iterations is unclear: the slope's interval is wide and contains "
        "zero."
    )


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

    @property
    def slope_text(self) -> str:
        """The slope with its interval."""
        s = self.slope
        return f"{number(s.slope)} ({number(s.low)} to {number(s.high)})"

    @property
    def sentence(self) -> str:
        """Depth at the easiest and the hardest, and the slope."""
        name, s = DEPTH_NAMES[self.name], self.slope
        if s.items < MIN_ITEMS:
            return f"{name}: available for {s.items} items only, too few for a slope."
        return (
            f"{name}: {number(float(self.mean_by_level[0]))} at the easiest and "
            f"{number(float(self.mean_by_level[-1]))} at the hardest; slope {self.slope_text} iterations per "
            f"unit, rank correlation {number(s.correlation, 2)} ({s.items} items of {s.groups} examples); "
            f"with difficulties shuffled {number(s.shuffled[0], 2)} to {number(s.shuffled[1], 2)}."
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
    same_threshold: float = SAME_DEPTH
    """Depth is the same for all if the slope's interval leaves fewer iterations than this between
    the easiest and the hardest."""

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
                f"At the end {percent(float(self.correct[0]))} of the items are correct at "
                f"{self.levels[0]:g} ({self.unit}) and {percent(float(self.correct[-1]))} at "
                f"{self.levels[-1]:g}."
            )
        lines.append(
            f"{self.unsettled} of {len(self.difficulty)} items still change in the last of "
            f"{self.iterations} iterations. Threshold: the same depth means a difference of less than "
            f"{self.same_threshold:g} iterations from the easiest to the hardest."
        )
        return " ".join(lines)
