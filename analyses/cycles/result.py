"""What an analysis of cycles gives: the verdict, the numbers, and their summary."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.fate import Fate
from loopscope.common.text import number, percent
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.maths import KINDS, Recurrence, Thresholds

from .layer_limits import LayerLimits

VERDICT_SHARE = 0.95
"""The verdict is a kind if this fraction of the trajectories is of it."""


class CyclesVerdict(Verdict):
    """Where the trajectories go."""

    fixed_point = "Nearly every trajectory comes to rest at a point."
    orbit = "Nearly every trajectory goes round an orbit."
    torus = "Nearly every trajectory winds with two independent frequencies."
    slider = "Nearly every trajectory slides: its direction settles while its norm grows."
    drifting = "Nearly every trajectory drifts on without returning."
    irregular = "Nearly every trajectory keeps moving irregularly: no period explains it."
    diverging = "Nearly every trajectory diverges."
    mixed = "The trajectories are of different kinds."
    unresolved = (
        "The precision of the states can't tell what kind of motion this is: it may be rest, or slow motion "
        "that is rounded away."
    )
    unclear = UNCLEAR


_FATES: dict[CyclesVerdict, Fate] = {
    CyclesVerdict.fixed_point: "converges",
    CyclesVerdict.orbit: "cycles",
    CyclesVerdict.torus: "moves",
    CyclesVerdict.slider: "moves",
    CyclesVerdict.drifting: "moves",
    CyclesVerdict.irregular: "moves",
    CyclesVerdict.diverging: "grows",
}


@dataclass(frozen=True)
class Sensitivity:
    """How the shares of the kinds change with one threshold."""

    values: list[float]
    shares: Float[Tensor, "value kind"]

    @property
    def largest_change(self) -> float:
        """The largest change of a share over the values."""
        return float((self.shares.max(0).values - self.shares.min(0).values).max())


@dataclass(frozen=True)
class CyclesResult(AnalysisResult):
    """Where a loop's trajectories go."""

    verdict: CyclesVerdict
    shares: dict[str, float]
    """Fraction of the trajectories (one per example and position) of each kind."""
    shares_by_position: Float[Tensor, "kind position"]
    kind_index: Int[Tensor, "batch position"]
    """The number of the kind, in the order of `shares`; -1 where a position doesn't count."""
    period: Float[Tensor, "batch position"]
    """Iterations per return, integer or not; 1 at a point, NaN without one."""
    angle: Float[Tensor, "batch position"]
    """Rotation per iteration in radians, 0..pi; 0 at a point, NaN without one."""
    quality: Float[Tensor, "batch position"]
    """Fraction of the variance of the second half that the best period explains."""
    overflow: int | None
    """The first k that holds NaN or infinity."""
    iterations: tuple[int, int, int]
    """(first k, last k of the run, last k) of the trajectories."""
    continuation: str
    """How the run was continued, as a sentence."""
    thresholds: Thresholds
    sensitivity: dict[str, Sensitivity]
    """By threshold, how it changes the shares."""
    example: tuple[int, int]
    """(batch, position) of the trajectory in `projection` and `recurrence`."""
    projection: Float[Tensor, "state 2"]
    """That trajectory on the two principal directions of its second half."""
    recurrence: Recurrence | None
    """Of the last states of that trajectory; None where it has too few finite ones."""
    layers: LayerLimits | None
    """None where the run has no layers to record."""
    modes: list[complex] | None = None
    """Eigenvalues of the dynamic mode decomposition of that trajectory; None without `dmd=True`."""
    verdict_share: float = VERDICT_SHARE
    """The verdict is a kind if this fraction of the trajectories is of it."""

    @property
    def period_sentence(self) -> str:
        """The periods of the orbits; empty where there are none."""
        orbit = self.kind_index == [kind.name for kind in KINDS].index("orbit")
        if not bool(orbit.any()):
            return ""
        return _periods(self.period[orbit], self.angle[orbit])

    @property
    def sensitivity_sentence(self) -> str:
        """The threshold that changes the shares most."""
        change = {name: sensitivity.largest_change for name, sensitivity in self.sensitivity.items()}
        name = max(change, key=lambda key: change[key])
        if change[name] == 0:
            return "The shares are the same for all values of the thresholds that were tried."
        values = self.sensitivity[name].values
        return (
            f"The threshold that changes the shares most is {name}: by up to {percent(change[name])} between "
            f"{values[0]:g} and {values[-1]:g}."
        )

    @property
    def fate(self) -> Fate:
        return _FATES.get(self.verdict, "unclear")

    def summary(self) -> str:
        kinds = [
            f"{percent(share)} {name.replace('_', ' ')}" for name, share in self.shares.items() if share > 0
        ]
        count = int((self.kind_index >= 0).sum())
        lines = [
            self.sentence,
            f"Of {count} trajectories (examples × positions): {', '.join(kinds)}.",
            self.period_sentence,
        ]
        if self.overflow is not None:
            lines.append(f"NaN or infinity begins at state {self.overflow}.")
        lines.append(self.continuation)
        if self.layers is not None:
            lines.append(self.layers.sentence)
        if self.modes is not None:
            sizes = ", ".join(number(abs(complex(mode))) for mode in self.modes[:4])
            lines.append(f"The leading dynamic modes of the example trajectory have moduli {sizes}.")
        lines += [_threshold_sentence(self.thresholds, self.verdict_share), self.sensitivity_sentence]
        return " ".join(line for line in lines if line)


def _periods(period: Tensor, angle: Tensor) -> str:
    """A sentence on the orbits' integer periods, and one on the orbits that never close."""
    closes = period.round() == period
    values, counts = period[closes].unique(return_counts=True)
    most_common = sorted(zip(values, counts, strict=True), key=lambda item: -int(item[1]))[:4]
    sentences = []
    if most_common:
        parts = ", ".join(f"{int(value)} ({int(count)})" for value, count in most_common)
        sentences.append(f"Integer periods (trajectories): {parts}.")
    if bool((~closes).any()):
        a = angle[~closes]
        sentences.append(
            f"{int((~closes).sum())} orbits never close: their median rotation is "
            f"{number(float(a.median()), 6)} radians per iteration ({number(float(a.min()))} to "
            f"{number(float(a.max()))})."
        )
    return " ".join(sentences)


def _threshold_sentence(t: Thresholds, share: float) -> str:
    return (
        f"Thresholds: a verdict needs {percent(share)} of the trajectories; a period explains "
        f"{t.coherence:g} of the variance of the second half; motion below {t.noise:g} of the norm counts as "
        f"rest; motion that shrinks to {t.shrink:g} from quarter to quarter (if geometrically, to "
        f"{t.slow:g}) comes to rest; unbounded growth (slider): the norm grows {t.growth:g}-fold while the "
        f"direction turns by less than {t.swing:g} radians; drift: a straight line explains {t.trend:g} of "
        f"the variance, or a smooth arc {t.arc:g}."
    )


def example_trajectory(kind_index: Tensor, quality: Tensor, period: Tensor) -> tuple[int, int]:
    """(batch, position) of a trajectory worth drawing: an orbit if there is one, else the kind that
    moves most; among those, the one that its period explains best."""
    order = ["orbit", "torus", "irregular", "slider", "drifting", "diverging", "unresolved", "fixed_point"]
    ranks = torch.tensor([*(order.index(kind.name) for kind in KINDS), len(order)])  # -1 is the last
    rank = ranks[kind_index.cpu()]
    best = (rank == rank.min()).flatten().nonzero()[:, 0]
    score = quality.cpu().flatten()[best] + (period.cpu().flatten()[best] > 2) * 1.0
    return divmod(int(best[score.nan_to_num(0).argmax()]), kind_index.shape[1])
