"""The result of locality: how far the effect of an intervention reaches, by iterations after it."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.text import number, percent, plural

from .verdict import GROWTH, LITTLE, LOCAL, LocalityVerdict, affected_at


@dataclass(frozen=True)
class LocalityResult(AnalysisResult):
    """How far the effect of patching one position reaches."""

    verdict: LocalityVerdict
    iteration: int
    """The k whose state is patched."""
    after: tuple[int, ...]
    """m, iterations after the intervention."""
    locality: Float[Tensor, " after"]
    """Share of the effect on others that falls on neighbours, over that of a uniform effect; NaN
    where there is no effect on others."""
    low: Float[Tensor, " after"]
    """95 % interval over examples."""
    high: Float[Tensor, " after"]
    distance: Float[Tensor, " after"]
    """Mean distance of the effect on others."""
    chance: Float[Tensor, " after"]
    """The same if the effect were uniform over all reachable positions."""
    self_share: Float[Tensor, " after"]
    """Share of the effect at the patched position itself, 0..1."""
    size: Float[Tensor, " after"]
    """Mean effect of one intervention, summed over positions."""
    unit: str
    """Of the effect."""
    by_distance: Float[Tensor, "after distance"]
    """Share of the effect at each distance 0, 1, 2 ..."""
    replacement: str
    """What replaces the state, in words."""
    neighbours: str
    """Which positions are neighbours, in words."""
    causal: bool
    """Whether no position affects an earlier one."""
    examples: int
    local_threshold: float = LOCAL
    """Local is from this many times a uniform effect on, at the first m that affects others;
    distant is below one over it; alike is between the two ..."""
    growth_threshold: float = GROWTH
    """... and a local effect is relayed if its distance grows by this factor after that."""
    little_threshold: float = LITTLE
    """Others are hardly affected if their share of the effect is below this at every m."""

    @property
    def affected(self) -> list[int]:
        """The m at which other positions are affected, by more than a negligible share."""
        return affected_at(self.distance, self.self_share)

    def summary(self) -> str:
        finite = self.affected
        rows = "; ".join(
            f"after {plural(self.after[i], 'more iteration')} {_times(self.locality[i])} times uniform "
            f"({_times(self.low[i])} to {_times(self.high[i])}), at a mean distance of "
            f"{number(float(self.distance[i]))} (uniform: {number(float(self.chance[i]))}), with "
            f"{percent(float(self.self_share[i]))} of the effect at the patched position"
            for i in dict.fromkeys((finite[0], finite[len(finite) // 2], finite[-1]) if finite else ())
        )
        reachable = ", and only later positions are reachable" if self.causal else ""
        return (
            f"{self.sentence} The state at k = {self.iteration} was replaced at one position by "
            f"{self.replacement}, in {self.examples} examples; neighbours: {self.neighbours}{reachable}. "
            f"{'Effect on neighbours: ' + rows if rows else 'No other position was affected'}. Others are "
            f"hardly affected if less than {percent(self.little_threshold)} of the effect is on them after "
            "any number of iterations. Else the verdict is about the first number of iterations that "
            f"affects others: local from {self.local_threshold:g} times uniform on, distant below 1 / "
            f"{self.local_threshold:g}, alike between; relayed if the distance then grows by a factor of "
            f"{self.growth_threshold:g}."
        )


def _times(value: Tensor) -> str:
    return number(float(value)) if not float(value) < 0.005 else "0"
