"""What an analysis of fixed points gives: the verdict, the numbers, and their summary."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.fate import Fate
from loopscope.common.text import number, percent, plural
from loopscope.common.verdict import UNCLEAR, Verdict

from .basins import FixedPoint

MERGE_DISTANCE, RESIDUAL_TOLERANCE = 1e-3, 1e-6


class FixedPointsVerdict(Verdict):
    """Where a loop ends."""

    one = "The loop ends at a stable fixed point, and all starts that were tried lead to the same one."
    several = (
        "The loop ends at a fixed point, but other starts lead elsewhere: there is more than one attractor."
    )
    local = (
        "The loop ends at a fixed point and no other was found, but from some other starts it didn't "
        "converge."
    )
    approaching = (
        "The loop approaches a stable fixed point, but hasn't reached it by the end of the extra iterations."
    )
    unstable = "There is a fixed point, found by solvers, but it doesn't attract the loop."
    none = "The loop doesn't end at a fixed point, and no solver found one."
    diverging = "The loop diverges: its states grow without bound."
    iteration_dependent = (
        "The loop receives the iteration index, so each iteration applies another map, and there is no fixed "
        "point of a single map."
    )
    unresolved = (
        "The precision of the states can't tell where the loop ends: what they can't tell from rest may be "
        "slow motion, and what they can't tell apart several points."
    )
    mixed = "The examples differ in where the loop ends."
    unclear = UNCLEAR


_FATES: dict[FixedPointsVerdict, Fate] = {
    FixedPointsVerdict.one: "converges",
    FixedPointsVerdict.several: "converges",
    FixedPointsVerdict.local: "converges",
    FixedPointsVerdict.unstable: "moves",
    FixedPointsVerdict.none: "moves",
    FixedPointsVerdict.diverging: "grows",
}
_COUNTED = {
    FixedPointsVerdict.one: ("has one attracting fixed point", "have one attracting fixed point"),
    FixedPointsVerdict.several: (
        "has several attracting fixed points",
        "have several attracting fixed points",
    ),
    FixedPointsVerdict.local: (
        "ends at a fixed point that some starts don't reach",
        "end at a fixed point that some starts don't reach",
    ),
    FixedPointsVerdict.approaching: ("approaches a fixed point", "approach a fixed point"),
    FixedPointsVerdict.unstable: (
        "has a fixed point that doesn't attract the loop",
        "have a fixed point that doesn't attract the loop",
    ),
    FixedPointsVerdict.none: (
        "has no fixed point that was found",
        "have no fixed point that was found",
    ),
    FixedPointsVerdict.unresolved: ("can't be told by its precision", "can't be told by their precision"),
    FixedPointsVerdict.diverging: ("diverges", "diverge"),
}
"""What an example with the verdict does, and what several such examples do."""


@dataclass(frozen=True)
class FixedPointsResult(AnalysisResult):
    """Where a loop ends, example by example."""

    verdict: FixedPointsVerdict
    verdicts: tuple[FixedPointsVerdict, ...]
    """Of each example."""
    reached: Int[Tensor, " example"]
    """The k from which on the state stays at its fixed point (within `merge_distance`); -1 if it
    never does."""
    reached_by_position: Int[Tensor, "example position"]
    """The same for each position, in the primary tensor."""
    rate: Float[Tensor, " example"]
    """Factor per iteration by which the distance to the fixed point shrinks in the end; NaN if
    there is none."""
    rate_error: Float[Tensor, " example"]
    """Its standard error."""
    rate_by_position: Float[Tensor, "example position"]
    rate_sentence: str
    """On the first example's rate, or why it has none."""
    residual: Float[Tensor, " example"]
    """‖F(x) - x‖ / ‖x‖ at the run's last state."""
    distance: Float[Tensor, " example"]
    """From the end of the extra iterations to the nearest fixed point found from there, over its
    size; NaN if none was found."""
    solver_distance: Float[Tensor, " example"]
    """From the end of the extra iterations to what Anderson's solver finds from the first state,
    over its size; NaN if it finds none."""
    overflow: Int[Tensor, " example"]
    """The k of the first state that holds NaN or infinity; -1 if none does."""
    points: tuple[FixedPoint, ...]
    """The distinct fixed points of all examples."""
    reachability: float
    """Fraction of all starts, the examples' own included, that reach a fixed point within the run's
    length."""
    input_dependence: float
    """Distance between fixed points over distance between inputs; 0 if the loop reads no input, NaN
    for fewer than two examples that reach one."""
    reads_input: bool
    """Whether an iteration reads anything that depends on the tokens."""
    radius: Float[Tensor, " example"]
    """Spectral radius at the fixed point nearest to where the loop ends; NaN where it wasn't
    computed."""
    starts: int
    """How many other starts per example."""
    trajectories: Float[Tensor, "example state plane"]
    """The loop's own states in the plane of the figure."""
    first: int
    """The k of the first of them."""
    continuation: str
    """How the states were continued, as a sentence."""
    merge_distance: float
    """Points nearer than this are one, relative to their norm and to the range that the loop
    covers, whichever is less; but no nearer than rounding."""
    tolerance: float
    """The residual below which plain iteration has converged."""
    perturbation: float
    """Size of the perturbations, relative to the state's norm."""

    @property
    def fate(self) -> Fate:
        return _FATES.get(self.verdict, "unclear")

    def summary(self) -> str:
        lines = [self.sentence]
        if self.verdict is FixedPointsVerdict.mixed:
            lines.append(_counts_sentence(self.verdicts))
        if (self.overflow >= 0).any():
            lines.append(f"NaN or infinity begins at state {int(self.overflow[self.overflow >= 0].min())}.")
        if self.verdict is not FixedPointsVerdict.iteration_dependent:
            lines += self._point_sentences()
        lines.append(
            f"{self.continuation} {self.starts} other starts per example. Thresholds: two fixed "
            f"points count as the same if they lie within {self.merge_distance:g} of norm and range; "
            f"converged below a residual of {self.tolerance:g}; perturbations of {self.perturbation:g}."
        )
        return " ".join(lines)

    def _point_sentences(self) -> list[str]:
        """The points, the rate, and the three numbers, in words."""
        reached = self.reached[self.reached >= 0]
        when = (
            f"the loop reaches its fixed point after {reached.float().mean():.1f} iterations on average and "
            f"{int(reached.max())} at most"
            if len(reached)
            else "the loop reaches none"
        )
        stable = sum(point.stable is True for point in self.points)
        unstable = sum(point.stable is False for point in self.points)
        lines = [
            f"Solvers and iteration found {len(self.points)} fixed points in {len(self.verdicts)} examples, "
            f"counted per example ({stable} stable, {unstable} unstable, the rest neutral or not computed); "
            f"{when}."
        ]
        if len(reached):
            lines.append(self.rate_sentence)
        gap = self.solver_distance
        far = gap[(gap > self.merge_distance) & gap.isfinite()]
        if len(far):
            lines.append(
                f"In {len(far)} examples the solver's fixed point is not where the loop ends: they are at "
                f"most {number(float(far.max()))} of the state's size apart."
            )
        radius = self.radius[self.radius.isfinite()]
        mean_radius = float(radius.mean()) if len(radius) else float("nan")
        lines.append(
            f"{percent(self.reachability)} of all starts have converged within the run's length. "
            f"Input dependence: {number(self.input_dependence)}"
            f"{'' if self.reads_input else ' (no input is read)'}. Local geometry: the mean spectral radius "
            f"is {number(mean_radius)}."
        )
        return lines


def _counts_sentence(verdicts: tuple[FixedPointsVerdict, ...]) -> str:
    """How many examples have each verdict, such as "2 examples have one attracting fixed point, 2
    have several attracting fixed points."."""
    parts = []
    for verdict, (singular, several) in _COUNTED.items():
        count = verdicts.count(verdict)
        if count:
            subject = plural(count, "example") if not parts else str(count)
            parts.append(f"{subject} {singular if count == 1 else several}")
    return f"{', '.join(parts)}."
