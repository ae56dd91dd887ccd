"""What an analysis of cycles gives: the verdict, the numbers, and their summary."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.evidence import NEARLY_ALL
from loopscope.common.fate import Fate, fates_of_examples
from loopscope.common.text import number, percent, plural
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.maths import KINDS, Kind, Recurrence, Thresholds
from loopscope.maths.late_motion import LATE_MOTIONS, LateMotion

from .layer_limits import LayerLimits

VERDICT_SHARE = NEARLY_ALL
"""The verdict is a kind if this fraction of the trajectories is of it."""


class CyclesVerdict(Verdict):
    """Where the trajectories go."""

    fixed_point = "Nearly every trajectory comes to rest at a point, or nears one."
    orbit = "Nearly every trajectory goes round an orbit."
    torus = "Nearly every trajectory winds with two independent frequencies."
    slider = "Nearly every trajectory drifts outward: its direction settles while its norm grows."
    drifting = "Nearly every trajectory drifts on without returning, and not straight outward."
    irregular = "Nearly every trajectory keeps moving irregularly: no period explains it."
    diverging = "Nearly every trajectory diverges."
    mixed = "The trajectories are of different kinds."
    unresolved = (
        "The states can't tell what kind of motion this is: it may be rest, or slow motion that is rounded "
        "away or hasn't ended yet."
    )
    unclear = UNCLEAR


def share_name(kind: Kind) -> str:
    """The name of the estimate of a kind's share."""
    return f"{_SHARE}{_NAMES.get(kind, kind.name.replace('_', ' '))}"


def kind_in(name: str) -> str:
    """The kind in such a name."""
    return name.removeprefix(_SHARE)


_SHARE = "share of trajectories, "
_NAMES = {Kind.slider: "drifting outward", Kind.drifting: "drifting otherwise"}
_FATES: dict[Kind, Fate] = {
    Kind.fixed_point: "converges",
    Kind.orbit: "cycles",
    Kind.torus: "quasiperiodic",
    Kind.slider: "drifts",
    Kind.drifting: "drifts",
    Kind.irregular: "irregular",
    Kind.diverging: "grows",
    Kind.unresolved: "unclear",
}


def fate_of(kind: Kind, motion: LateMotion) -> Fate:
    """The fate of a trajectory: that of its kind, unless the sizes of its last steps deny it.
    What stops at once has halted; in a model that doesn't halt it has converged (`fates`).

    It is unclear where the kind is a point but the steps go on, and where the kind moves but the
    steps end.
    """
    ends: dict[LateMotion, Fate] = {
        LateMotion.rests: "converges",
        LateMotion.stops: "halts",
        LateMotion.approaches: "approaches",
    }
    if motion in ends:
        return ends[motion] if kind is Kind.fixed_point else "unclear"
    fate = _FATES[kind]
    if motion in (LateMotion.slows, LateMotion.moves, LateMotion.grows) and fate == "converges":
        return "unclear"
    grows = motion is LateMotion.grows and fate in ("cycles", "quasiperiodic", "irregular")
    return "moves" if grows else fate


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
    """The number of the kind, in the order of `shares`; -1 where a position doesn't count. It is
    that of the path unless the last steps deny it; see `loopscope.analyses.cycles.judged`."""
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
    """That trajectory on the two principal directions of its second half; of one that leaves where
    it began, from its start on, and so that the first states can be told apart."""
    recurrence: Recurrence | None
    """Of the last states of that trajectory; None where it has too few finite ones."""
    layers: LayerLimits | None
    """None where the run has no layers to record."""
    late_motion: Int[Tensor, "batch position"]
    """Whether its last steps have stopped, shrink or go on: the number in
    `loopscope.maths.late_motion.LATE_MOTIONS`; -1 where a position doesn't count."""
    modes: list[complex] | None = None
    """Eigenvalues of the dynamic mode decomposition of that trajectory; None without `dmd=True`."""
    verdict_share: float = VERDICT_SHARE
    """The verdict is a kind if this fraction of the trajectories is of it."""
    halts: bool = False
    """Whether the model halts, and may keep a state from there."""

    @property
    def sentence(self) -> str:
        """The verdict, which counts positions, and how many examples have a position that moves
        where nearly all rest."""
        at_rest = torch.tensor([KINDS.index(Kind.fixed_point), -1], device=self.kind_index.device)
        counted = self.kind_index[(self.kind_index >= 0).any(1)]
        moving = int((~torch.isin(counted, at_rest)).any(1).sum())
        if self.verdict is not CyclesVerdict.fixed_point or not moving:
            return super().sentence
        return (
            f"{super().sentence} But in {moving} of {plural(len(counted), 'example')} there is a position "
            "that does not."
        )

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
    def fates(self) -> dict[int, Fate]:
        """Where each example goes: it converges if all of its positions come to rest; see
        `loopscope.common.fate.fate_of_positions`, and `fate_of` for a position's."""
        return fates_of_examples(list(self.fates_by_position.values()))

    @property
    def fates_by_position(self) -> dict[int, list[Fate | None]]:
        pairs = zip(self.kind_index.tolist(), self.late_motion.tolist(), strict=True)
        return {
            row: [
                None if kind < 0 else self._fate(KINDS[kind], LATE_MOTIONS[motion])
                for kind, motion in zip(kinds, motions, strict=True)
            ]
            for row, (kinds, motions) in enumerate(pairs)
        }

    def _fate(self, kind: Kind, motion: LateMotion) -> Fate:
        stopped = motion is LateMotion.stops and not self.halts
        return fate_of(kind, LateMotion.rests if stopped else motion)

    @property
    def fate_iterations(self) -> int:
        return self.iterations[2]

    @property
    def fate_criterion(self) -> str:
        return (
            f"the path of the second half of {self.iterations[2]} iterations: its period, its direction, and "
            "how its size changes"
        )

    def summary(self) -> str:
        kinds = [f"{e.share_text} {kind_in(e.name)}" for e in self.evidence.estimates]
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
        parts = ", ".join(f"{int(count)} after {int(value)}" for value, count in most_common)
        parts += ", ..." if len(values) > len(most_common) else ""
        several, verb = plural(int(closes.sum()), "orbit"), "closes" if int(closes.sum()) == 1 else "close"
        after = f"{int(most_common[0][0])} iterations"
        sentences.append(
            f"{several} {verb} after {after}."
            if len(values) == 1
            else f"{several} {verb} after a whole number of iterations: {parts}."
        )
    if bool((~closes).any()):
        a = angle[~closes]
        sentences.append(
            f"{plural(int((~closes).sum()), 'orbit')} never closed: the median rotation is "
            f"{number(float(a.quantile(0.5)), 6)} radians per iteration ({number(float(a.min()))} to "
            f"{number(float(a.max()))})."
        )
    return " ".join(sentences)


def _threshold_sentence(t: Thresholds, share: float) -> str:
    return (
        f'"Nearly every" means {percent(share)} or more; a period explains {t.coherence:g} of the variance '
        f"of the second half, and motion below {t.noise:g} of the range counts as rest (the result's "
        "field thresholds has all of them)."
    )


def example_trajectory(
    kind_index: Tensor, quality: Tensor, period: Tensor, verdict_share: float = VERDICT_SHARE
) -> tuple[int, int]:
    """(batch, position) of a typical trajectory: of the most common kind, or of the most common
    that moves where some rest, but too few for the verdict to be that they do; an orbit of the most
    common period, or of the median one where none is whole; among those, the one that its period
    explains best."""
    kinds, turns = kind_index.cpu().flatten(), period.cpu().flatten().double()
    score = quality.cpu().flatten().double().nan_to_num(0)
    worth = [Kind.orbit, Kind.torus, Kind.irregular, Kind.slider, Kind.drifting, Kind.diverging]
    order = [*worth, Kind.fixed_point, Kind.unresolved]  # of kinds that are as common
    codes = [KINDS.index(kind) for kind in order]
    counts = {code: int((kinds == code).sum()) for code in codes}
    moving = [code for code in codes[: len(worth)] if counts[code]]
    rests = counts[KINDS.index(Kind.fixed_point)] >= verdict_share * sum(counts.values()) - 1e-9
    best = (kinds == max(codes if rests or not moving else moving, key=counts.__getitem__)).nonzero()[:, 0]
    if not bool(turns[best].isnan().any()):
        values, times = turns[best].unique(return_counts=True)
        common = values[times.argmax()] if int(times.max()) > 1 else turns[best].quantile(0.5)
        away = (turns[best] - common).abs()
        best = best[away == away.min()]
    return divmod(int(best[score[best].argmax()]), kind_index.shape[1])
