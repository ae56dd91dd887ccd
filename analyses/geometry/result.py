"""The geometry of a run's states as a result: its numbers, its verdict and its sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.text import number, percent, plural
from loopscope.common.verdict import UNCLEAR, Verdict

CHANGE_FACTOR = 1.25
CHANGE = "participation ratio of the last state over that of the first that has one"


class GeometryVerdict(Verdict):
    """How the participation ratio of the states changes over the iterations."""

    widening = "The states spread out: their participation ratio is larger at the end than at the start."
    narrowing = "The states concentrate: their participation ratio is smaller at the end than at the start."
    steady = "The participation ratio of the states is about the same at the end as at the start."
    point = "The states are one point from start to end: nothing sets examples or positions apart."
    collapsed = "The states collapse to a point: all positions end in the same state."
    unresolved = (
        "The precision of the states can't tell their shape: they lie so close together that their "
        "differences may be rounding."
    )
    unclear = UNCLEAR


@dataclass(frozen=True)
class FieldGeometry:
    """The geometry of one tensor of the state. The axis `state` counts k as recorded."""

    name: str
    participation_ratio: Float[Tensor, " state"]
    """Between 1 and the smaller of width and vectors; NaN where all vectors are equal, to
    rounding."""
    effective_rank: Float[Tensor, " state"]
    """NaN where all vectors are equal, to rounding."""
    step_angle: Float[Tensor, " turn"]
    """Mean angle between successive steps, radians; NaN once the steps are rounding."""
    cka: Float[Tensor, "state state"]
    """Linear CKA of the states after any two iterations, 0..1; NaN where all vectors are equal, to
    rounding."""
    components: Float[Tensor, "trajectory state component"]
    """Some trajectories in the principal components of all states."""
    explained: Float[Tensor, " component"]
    """Fraction of the variance of each component."""
    width: int
    resolved: Bool[Tensor, " state"]
    """Whether the precision of the states can tell that they are equal, or by how much they
    differ."""


@dataclass(frozen=True)
class GeometryResult(AnalysisResult):
    """The geometry of a run's states."""

    verdict: GeometryVerdict
    fields: tuple[FieldGeometry, ...]
    """The state's tensors, the primary one first."""
    states: tuple[int, ...]
    """The k of each state."""
    trajectories: tuple[tuple[int, int], ...]
    """(example, position) of the trajectories in `components`."""
    vectors: int
    """Vectors that are measured of each state."""
    change_factor: float
    """The verdict is `widening` or `narrowing` if the participation ratio changes by this
    factor."""

    @property
    def sentence(self) -> str:
        """The verdict on the two ends, with the factor that decides it, and the values between that
        are beyond both."""
        text, factor = super().sentence, f"{self.change_factor:g}"
        between = self._beyond_both_ends
        if self.verdict in (GeometryVerdict.widening, GeometryVerdict.narrowing):
            return f"{text.removesuffix('.')}, by a factor of {factor} or more{between}."
        if self.verdict is GeometryVerdict.steady:
            return f"{text.removesuffix('.')}, within a factor of {factor}{between}."
        return text

    @property
    def _beyond_both_ends(self) -> str:
        ratio = self.fields[0].participation_ratio
        known = [i for i, value in enumerate(ratio.tolist()) if not math.isnan(value)]
        return _between_text(ratio[known], [self.states[i] for i in known]) if known else ""

    def summary(self) -> str:
        lines = [self.sentence, *(_field_sentence(field, self.states) for field in self.fields)]
        first, second = self.fields[0], self.fields[min(1, len(self.fields) - 1)]
        times = float(first.participation_ratio[-1] / second.participation_ratio[-1])
        if second is not first and not math.isnan(times):
            lines.append(
                f"At the end the participation ratio of {first.name} is {number(times)} times that of "
                f"{second.name}."
            )
        change = next((e for e in self.evidence.estimates if e.name == CHANGE), None)
        if change is not None:
            lines.insert(1, f"The last participation ratio is {change.text} times the first, over examples.")
        lines.append(
            f"Measured on {self.vectors} vectors per state; a change by less than the factor "
            f"{self.change_factor:g} counts as none."
        )
        return " ".join(lines)


def _field_sentence(field: FieldGeometry, states: Sequence[int]) -> str:
    rank = field.effective_rank[field.effective_rank.isfinite()]
    ranks = f" (effective rank {number(float(rank[0]))} to {number(float(rank[-1]))})" if len(rank) else ""
    several = len(field.explained) > 1
    components = f"the first {'two principal components hold' if several else 'principal component holds'}"
    angles = field.step_angle[~field.step_angle.isnan()]
    turn = (
        f"; successive steps differ in direction by {number(float(angles.mean()))} radians on average"
        if len(angles)
        else ""
    )
    return (
        f"{field.name}: the participation ratio{ratio_text(field, states)}, of {field.width} "
        f"dimensions{ranks}{turn}; {components} {percent(float(field.explained[:2].sum()))} of the variance. "
        f"{similarity_sentence(field, states)}"
    )


def ratio_text(field: FieldGeometry, states: Sequence[int]) -> str:
    """How the participation ratio changes, as a clause after "the participation ratio".

    It begins and ends with the first and the last iteration at which the ratio is defined.

    Arguments:
        states: the k of each state.
    """
    ratio = field.participation_ratio
    defined = [i for i, value in enumerate(ratio.tolist()) if not math.isnan(value)]
    if not defined:
        return " is undefined, since all states are equal"
    first, last = defined[0], defined[-1]
    text = f" goes from {number(float(ratio[first]))} {_when(states[first])}"
    text += f" to {number(float(ratio[last]))} {_when(states[last])}"
    text += _between_text(ratio[defined], [states[i] for i in defined])
    missing = [k for i, k in enumerate(states) if i not in defined]
    if not missing:
        return text
    if missing == [states[0]]:
        return f"{text} (all examples start at one point, so the comparison begins at k = {states[first]})"
    where = _when(missing[0]) if len(missing) == 1 else f"for {len(missing)} of {len(states)} states"
    return f"{text} (undefined {where}, where all vectors are equal)"


def _between_text(ratio: Float[Tensor, " state"], states: Sequence[int]) -> str:
    """The largest ratio in between, and the smallest, if they are beyond both ends by
    CHANGE_FACTOR."""
    low, high = sorted((float(ratio[0]), float(ratio[-1])))
    top, bottom = int(ratio.argmax()), int(ratio.argmin())
    peak = f", with a peak of {number(float(ratio[top]))} {_when(states[top])}"
    trough = f", with a minimum of {number(float(ratio[bottom]))} {_when(states[bottom])}"
    text = peak if float(ratio[top]) >= CHANGE_FACTOR * high else ""
    return text + (trough if float(ratio[bottom]) * CHANGE_FACTOR <= low else "")


def similarity_sentence(field: FieldGeometry, states: Sequence[int]) -> str:
    """The CKA between the first state that has one, and the last.

    Arguments:
        states: the k of each state.
    """
    cka = field.cka[:, -1].tolist()
    first = next((i for i, value in enumerate(cka[:-1]) if not math.isnan(value)), None)
    if first is None:
        return "The CKA with the last state is undefined."
    return (
        f"The state {_when(states[first])} and the state {_when(states[-1])} have a CKA of "
        f"{number(cka[first])}."
    )


def _when(k: int) -> str:
    return "before the loop" if k == 0 else f"after {plural(k, 'iteration')}"


def verdict_of(
    first: float, last: float, *, resolved: bool = True, change_factor: float = CHANGE_FACTOR
) -> GeometryVerdict:
    """The verdict on the participation ratios of the first state that has one and of the last.

    Arguments:
        first, last: NaN where all vectors are equal.
        resolved: whether the precision can tell that they are.
        change_factor: it has changed if it differs by this factor.
    """
    if not resolved:
        return GeometryVerdict.unresolved
    if math.isnan(last):
        return GeometryVerdict.collapsed if not math.isnan(first) else GeometryVerdict.point
    if math.isnan(first):
        return GeometryVerdict.unclear
    if last >= change_factor * first:
        return GeometryVerdict.widening
    return GeometryVerdict.narrowing if last * change_factor <= first else GeometryVerdict.steady
