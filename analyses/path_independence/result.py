"""What an analysis of path independence gives: the verdict, the numbers, and their summary."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from loopscope.common.text import number, plural
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.dynamics.outcome_result import OutcomeResult

from .alignment import StartKind


class PathIndependenceVerdict(Verdict):
    """Whether the end depends on the start."""

    independent = "The loop is path-independent: from every start that was tried it reaches the same end."
    dependent = "The loop is path-dependent: where it ends depends on where it starts."
    attacked = "The loop reaches the same end from ordinary starts, but another end from adversarial starts."
    restless = (
        "The loop doesn't settle within the iterations that were run, from its own start or from others, so "
        "its ends can't be compared as limits."
    )
    approaching = (
        "The loop still approaches a fixed point when the iterations end, and from other starts it hasn't "
        "come as near, so it isn't known whether they lead to the same one."
    )
    diverging = "The loop diverges: its states grow without bound or overflow."
    unresolved = (
        "The precision of the states can't tell where the loop ends, and so not whether other starts lead "
        "to the same end."
    )
    mixed = "The examples differ in whether the end depends on the start."
    unclear = UNCLEAR


@dataclass(frozen=True)
class PathIndependenceResult(OutcomeResult):
    """Whether the loop reaches the same end from other starts."""

    verdict: PathIndependenceVerdict
    verdicts: tuple[PathIndependenceVerdict, ...]
    alignment: float
    """Asymptotic alignment over exchanged starts, or over random ones if the run has one
    example."""
    kinds: tuple[StartKind, ...]
    """The kinds of start; adversarial ones, if any, are last."""
    by_position: Float[Tensor, " position"]
    """Mean cosine over all ordinary starts, position by position."""
    contrast: float
    """Mean cosine between the ends of different examples: near 1, exchanging them is no test. NaN
    for one example."""
    rest: float
    """Size of one more iteration after an end, over its norm and over the distance from its start
    (the larger of both ratios), the largest over examples."""
    overflow: int
    """The k of the first state with NaN or infinity, the start being 0: of the loop's own, or else
    of another start's; -1 if there is none."""
    examples: int
    iterations: int
    """Iterations run from each start."""
    iteration_index: bool
    """Whether the model receives the iteration index, which is then the same for all starts."""
    precision: str
    aligned: float
    """A start reaches the same end from this cosine on ..."""
    near: float
    """... and up to this distance, over the least of the end's norm, the distance between the
    starts, and the step of a loop that still moves; but no nearer than rounding."""
    resting: float
    """A start leads to another end if in the last quarter of the iterations it moved by at most
    this part of its distance to the end."""

    @property
    def starts(self) -> int:
        """How many other starts there are per example."""
        return sum(kind.alignment.shape[1] for kind in self.kinds)

    def summary(self) -> str:
        share = self.evidence.estimates[0] if self.evidence.estimates else None
        lines = [self.sentence, self.evidence.how]
        if share is not None:
            lines.append(
                f"{plural(self.starts, 'other start')} per example; share of them that reach the same end: "
                f"{share.text}."
            )
        if self.overflow >= 0:
            lines.append(f"NaN or infinity begin at state {self.overflow}.")
        for kind in self.kinds:
            rounds = bool(kind.rounds.all())
            lines.append(
                f"{kind.label[0].upper()}{kind.label[1:]}: asymptotic alignment {number(kind.mean, 4)} "
                f"(minimum {number(float(kind.alignment.min()), 4)}), mean relative distance "
                f"{'no more than rounding' if rounds else number(float(kind.distance.mean()))}."
            )
        if self.contrast == self.contrast:
            lines.append(f"Mean cosine between the ends of different examples: {number(self.contrast)}.")
        lines.append(
            f"{plural(self.examples, 'example')}, {plural(self.iterations, 'iteration')} each, in "
            f"{self.precision}; one more iteration moves them by at most "
            f"{number(self.rest)} of norm and range."
        )
        lines.append(
            f"Thresholds: same end from cosine {self.aligned:g} and distance {self.near:g}; another end "
            f"where the last quarter of the iterations closes at most {self.resting:g} of the distance."
        )
        return " ".join(lines)
