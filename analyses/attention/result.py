"""What an analysis of attention gives: the verdict, the numbers, and their summary."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.text import number, percent, plural
from loopscope.maths.attention import SINK

from .counted_patterns import LOST
from .lipschitz_bound import LipschitzBound, bounds_sentence
from .massive_activations import MassiveActivation, massive_sentence
from .pattern_panel import PatternSample
from .verdict import AttentionVerdict

_CHANGING = (AttentionVerdict.moving, AttentionVerdict.partly, AttentionVerdict.mixed)
"""Verdicts by which some patterns keep changing as far as they were followed."""


@dataclass(frozen=True)
class AttentionResult(AnalysisResult):
    """How attention changes over the iterations."""

    verdict: AttentionVerdict
    layers: tuple[str, ...]
    """Sites of the patterns, in the order of the block."""
    change: Float[Tensor, "iteration layer head"]
    """‖A[t] - A[t-1]‖_F for t = 1, 2 ..., mean over examples."""
    distance: Float[Tensor, "pattern layer head"]
    """‖A[t] - A*‖_F for t = 0, 1 ..., mean over examples."""
    settled: Float[Tensor, "layer head"]
    """The first t from which the relative change ‖A[t] - A[t-1]‖ stays below the tolerance, as a
    part of ‖A[t]‖ and of ten times the range ‖A[t] - A*‖ that the pattern covers: the median over
    examples; NaN if the pattern doesn't converge in half of them. It converges if at least its
    last three changes are below the tolerance."""
    undecided: Float[Tensor, "layer head"]
    """Fraction of examples whose changes are rounding at the end, which is too large to tell
    whether they are below the tolerance."""
    pattern_distance: Float[Tensor, "unrolled unrolled"]
    """Mean distance of the patterns of all unrolled layers, iteration after iteration."""
    same_layer_fraction: float
    """Fraction of the unrolled layers, after the first iteration, whose most similar other one is
    the same layer of another iteration; NaN for one layer."""
    concentration: Float[Tensor, "pattern layer"]
    """ColSum concentration, 0..1, mean over heads and examples."""
    sinks: Float[Tensor, "pattern layer"]
    """Fraction of heads whose sink is the first position."""
    mixing: Float[Tensor, "pattern layer"]
    """Mean entropy of a row, nats."""
    lost: float
    """Share of the attention of positions that count that goes to positions that don't, 0..1; these
    are left out of all numbers."""
    uniform_baseline: dict[str, float]
    """The same three for a pattern that is uniform over what the mask allows."""
    entropy: Float[Tensor, "pattern layer"]
    """Residual entropy of the layer's output, nats; NaN where it wasn't recorded."""
    bounds: tuple[LipschitzBound, ...]
    """Of each layer."""
    massive: tuple[MassiveActivation, ...]
    """The most massive activation of the state, and of each layer's output, that has one."""
    largest_ratio: Float[Tensor, " state"]
    """Largest magnitude in the state over its median, by k."""
    limit: int
    """The iteration of A*."""
    residual: float
    """‖A* - A*[-1]‖ / ‖A*‖ at the limit, the largest of the heads."""
    continuation: str
    """How the run was continued, as a sentence."""
    patterns: PatternSample
    """Some of the patterns, as a report shows them."""
    ends_early: bool
    """Whether the loop ends by itself, so that there are no further patterns."""
    tolerance: float
    settled_fraction: float
    massive_ratio: float
    massive_size: float
    sink_threshold: float = SINK
    """A position is a sink if it receives this fraction of the attention."""

    @property
    def sentence(self) -> str:
        """The verdict; where patterns keep changing, with the iterations that were followed, which
        may be fewer than those of the states: a loop that has ended has no further patterns."""
        text = super().sentence
        if self.verdict not in _CHANGING:
            return text
        where = f"They were followed for {plural(self.limit + 1, 'iteration')}"
        why = ", where the loop ends by itself; of its states followed further they say nothing"
        return f"{text} {where}{why if self.ends_early else ''}."

    def summary(self) -> str:
        settled = self.settled[~self.settled.isnan()]
        lines = [
            self.sentence,
            self.evidence.how,
            f"{len(settled)} of {self.settled.numel()} heads converge in half of the examples or more "
            f"(relative change below {self.tolerance:g} in three last iterations or more)"
            + (f", the last of them at iteration t = {int(settled.max())}." if len(settled) else "."),
            f"{self.continuation} The limit is iteration {self.limit}, where patterns still change by at "
            f"most {number(self.residual)} of their norm.",
        ]
        if self.same_layer_fraction == self.same_layer_fraction:
            lines.append(
                f"{percent(self.same_layer_fraction)} of the unrolled layers have the most similar pattern "
                "in the same layer of another iteration."
            )
        if self.lost > LOST:
            lines.append(
                f"{percent(self.lost)} of the attention goes to positions that don't count (padding) and is "
                "left out."
            )
        lines += [
            self._stages_sentence(),
            bounds_sentence(self.bounds),
            massive_sentence(
                self.massive,
                float(self.largest_ratio.max()),
                ratio=self.massive_ratio,
                size=self.massive_size,
            ),
        ]
        return " ".join(lines)

    def _stages_sentence(self) -> str:
        concentration, mixing, sinks = (
            float(values[-1].mean()) for values in (self.concentration, self.mixing, self.sinks)
        )
        baseline = self.uniform_baseline
        return (
            f"In the last iteration of the run the concentration is {number(concentration)} (uniform "
            f"attention: {number(baseline['concentration'])}) and the mixing {number(mixing)} nats (uniform: "
            f"{number(baseline['mixing'])}), on average over examples, layers and heads. In "
            f"{percent(sinks)} of the (example, layer, head) combinations the first position is a sink: it "
            f"receives at least {self.sink_threshold:g} of all attention (uniform: "
            f"{percent(baseline['sinks'])})."
        )
