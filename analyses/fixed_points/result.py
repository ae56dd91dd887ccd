"""What an analysis of fixed points gives: the verdict, the numbers, and their summary."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from loopscope.common.text import number, percent, plural
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.dynamics.outcome_result import OutcomeResult

from .basins import FixedPoint

MERGE_DISTANCE, RESIDUAL_TOLERANCE = 1e-3, 1e-6
EQUAL = 1e-3
"""Rates of all examples within this part of each other are one number."""


class FixedPointsVerdict(Verdict):
    """Where a loop ends."""

    one = (
        "The loop ends at a stable fixed point: within an example, all starts that were tried lead to the "
        "same one."
    )
    several = (
        "The loop ends at a fixed point, but other starts lead elsewhere: there is more than one attractor."
    )
    local = (
        "The loop ends at a fixed point and no other was found, but from some other starts it didn't "
        "converge."
    )
    approaching = (
        "The loop approaches a fixed point, but hasn't reached it by the end of the extra iterations."
    )
    unstable = "The loop is at an unstable fixed point, from which small differences lead away."
    none = "The loop doesn't end at a fixed point within the iterations that were run."
    diverging = "The loop diverges: its states grow without bound."
    iteration_dependent = (
        "The loop receives the iteration index, so each iteration applies another map, and there is no fixed "
        "point of a single map."
    )
    unresolved = (
        "The precision of the states can't tell where the loop ends: what they can't tell from rest may be "
        "slow motion, and what they can't tell apart several points."
    )
    mixed = "The examples differ in where the loop ends, or in whether other starts lead there too."
    unclear = UNCLEAR


_CATEGORIES = {
    FixedPointsVerdict.one: "the example ends at a fixed point, and so does every other start that was tried",
    FixedPointsVerdict.several: "it ends at a fixed point, and some other start at another one",
    FixedPointsVerdict.local: "it ends at a fixed point, and some other start came to none",
    FixedPointsVerdict.none: "it ends at no fixed point",
}
"""What is said of one example, where the verdict's name says too little."""


@dataclass(frozen=True)
class FixedPointsResult(OutcomeResult):
    """Where a loop ends, example by example."""

    verdict: FixedPointsVerdict
    verdicts: tuple[FixedPointsVerdict, ...]
    reached: Int[Tensor, " example"]
    """The k from which on the state stays at its fixed point (within `merge_distance`); -1 if it
    never does."""
    reached_by_position: Int[Tensor, "example position"]
    """The same for each position, in the primary tensor."""
    rate: Float[Tensor, " example"]
    """Fitted contraction rate: the factor per iteration by which the distance of the example's
    whole state to its fixed point shrinks in the end; NaN if there is none."""
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
    """Fraction of all starts, the examples' own included, that after as many iterations as the run
    has are as near as `merge_distance` to the fixed point to which they lead."""
    input_dependence: float
    """Distance between fixed points over distance between inputs; 0 if the loop reads no input, NaN
    for fewer than two examples that reach one."""
    reads_input: bool
    """Whether an iteration reads anything that depends on the tokens."""
    radius: Float[Tensor, " example"]
    """Spectral radius at the fixed point where the example ends, or which it approaches; NaN
    without one, or where it was not found."""
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
    def category_sentence(self) -> str:
        """What the names of the examples' verdicts mean, of those that occur."""
        known = [(v.name, words) for v, words in _CATEGORIES.items() if v in self.verdicts]
        return f" Kinds of examples: {'; '.join(f'{n}: {w}' for n, w in known)}." if known else ""

    def summary(self) -> str:
        lines = [self.sentence, self.evidence.how]
        if (self.overflow >= 0).any():
            lines.append(f"NaN or infinity begins at state {int(self.overflow[self.overflow >= 0].min())}.")
        if self.verdict is not FixedPointsVerdict.iteration_dependent:
            lines += self._point_sentences()
        lines.append(
            f"{self.continuation} {plural(self.starts, 'other start')} per example, perturbed ends "
            f"among them. Thresholds: two fixed "
            f"points count as the same if they lie within {self.merge_distance:g} of norm and range; "
            f"converged below a residual of {self.tolerance:g}; perturbations of {self.perturbation:g}."
        )
        return " ".join(lines)

    def _point_sentences(self) -> list[str]:
        """The points, the rate, and reachability and input dependence, in words."""
        stable = sum(point.stable is True for point in self.points)
        unstable = sum(point.stable is False for point in self.points)
        unknown = len(self.points) - stable - unstable
        lines = [
            f"Solvers and iteration found {plural(len(self.points), 'fixed point')} in "
            f"{plural(len(self.verdicts), 'example')}, counted per example ({stable} stable, {unstable} "
            f"unstable{f', {unknown} neutral or not examined' if unknown else ''})."
        ]
        lines += self._reached_sentences()
        gap = self.solver_distance
        far = gap[(gap > self.merge_distance) & gap.isfinite()]
        if len(far):
            lines.append(
                f"In {plural(len(far), 'example')} the solver's fixed point is not where the loop ends: they "
                f"are at most {number(float(far.max()))} of the state's size apart."
            )
        if self.reachability == self.reachability and self.points:
            lines.append(
                f"{percent(self.reachability)} of all starts, those of the examples included, are as near to "
                "their fixed points within the run's length."
            )
        if self.input_dependence == self.input_dependence:
            read = "" if self.reads_input else " (no input is read)"
            lines.append(f"Input dependence: {number(self.input_dependence)}{read}.")
        return lines

    def _reached_sentences(self) -> list[str]:
        """When the examples reach their fixed points, and how fast they near them."""
        reached = self.reached[self.reached >= 0]
        if not len(reached):
            return ["No example of these reaches a fixed point."]
        lines = [
            f"{len(reached)} of {plural(len(self.reached), 'example')} come within "
            f"{self.merge_distance:g} of norm and range of their fixed point, after "
            f"{reached.double().mean():.1f} iterations on average and {int(reached.max())} at most."
        ]
        rates = [e for e in self.evidence.estimates if "rate" in e.name]
        values = self.rate[(self.reached >= 0) & ~self.rate.isnan()]
        known = len(values)
        if known > 1 and float(values.max() - values.min()) <= EQUAL * float(values.max()):
            lines.append(
                f"Fitted contraction rate of an example's distance to its fixed point: "
                f"{number(float(values[0]), 4)} per iteration in each of {plural(known, 'example')}. That is "
                "one number measured several times, not a sample: what sets it, such as a position that all "
                "examples share, doesn't depend on the example."
            )
        elif rates:
            lines.append(
                f"Fitted contraction rate of an example's distance to its fixed point: median "
                f"{rates[0].text} per iteration, over {plural(known, 'example')}."
            )
        else:
            lines.append(f"No contraction rate of them is known. {self.rate_sentence}")
        return lines
