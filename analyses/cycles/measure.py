"""The measurement: cycles of a run. See the package for the question and its references."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.text import number, percent
from loopscope.maths import KINDS, Recurrence, Thresholds, recurrence
from loopscope.maths.dmd import dynamic_modes
from loopscope.maths.trajectory_kind import classify_features, join_limits, measure_features
from loopscope.recorder.extend import Continuation, continue_run, vectors
from loopscope.runs.run import Run

from .layer_limits import Layers
from .layer_limits import layers as layers_of

NEARLY, ONE_POINT = 0.95, 0.99
_FEWEST, _PLOTTED = 12, 96
_SWEEPS: dict[str, tuple[float, ...]] = {
    "coherence": (0.8, 0.9, 0.95, 0.98, 0.99),
    "noise": (0.001, 0.01, 0.03, 0.1, 0.3),
    "growth": (1.01, 1.02, 1.05, 1.1, 1.2),
    "trend": (0.1, 0.2, 0.3, 0.5, 0.8),
}


class Course(Verdict):
    """Where the trajectories go."""

    fixed_point = "Nearly every trajectory comes to rest at a point."
    orbit = "Nearly every trajectory goes round an orbit."
    torus = "Nearly every trajectory winds with two independent frequencies."
    slider = "Nearly every trajectory slides: its direction settles while its norm grows."
    drifting = "Nearly every trajectory drifts on without returning."
    irregular = "Nearly every trajectory goes on moving irregularly: no period explains it."
    diverging = "Nearly every trajectory diverges."
    mixed = "The trajectories differ: some go one way, some another."


@dataclass(frozen=True)
class Cycles(AnalysisResult):
    """Where a loop's trajectories go."""

    verdict: Course
    shares: dict[str, float]
    """Fraction of the trajectories (one per example and position) of each kind."""
    by_position: Float[Tensor, "kind position"]
    """The same for each position."""
    code: Int[Tensor, "batch position"]
    """The number of the kind, in the order of `shares`."""
    period: Float[Tensor, "batch position"]
    """Iterations per return, whole or not; 1 at a point, NaN without one."""
    angle: Float[Tensor, "batch position"]
    """Rotation per iteration in radians, 0..pi; 0 at a point, NaN without one."""
    quality: Float[Tensor, "batch position"]
    """Fraction of the late variance that the best period explains."""
    overflow: int | None
    """The first k that holds NaN or infinity."""
    iterations: tuple[int, int, int]
    """(first k, last k shown, last k) of the trajectories."""
    how: str
    thresholds: Thresholds
    sensitivity: dict[str, dict[str, Any]]
    """By threshold: its `values`, and the `shares` (value, kind) that they give."""
    example: tuple[int, int]
    """(batch, position) of the trajectory in `plane` and `recurrence`."""
    plane: Float[Tensor, "state 2"]
    """That trajectory on the two principal directions of its late half."""
    recurrence: Recurrence | None
    """Of the same trajectory, its last states; None where it has too few finite ones."""
    layers: Layers | None
    """None where the run has no layers to see."""
    modes: Any = None
    """Eigenvalues of the dynamic mode decomposition of that trajectory, if asked for."""
    nearly: float = NEARLY
    """The verdict is a kind if this fraction of the trajectories is of it."""

    def summary(self) -> str:
        t, first = self.thresholds, self.verdict.sentence
        kinds = [
            f"{percent(share)} {name.replace('_', ' ')}" for name, share in self.shares.items() if share > 0
        ]
        lines = [first, f"Of {self.code.numel()} trajectories (examples × positions): {', '.join(kinds)}."]
        lines.append(_periods(self))
        if self.overflow is not None:
            lines.append(f"NaN or infinity begins at state {self.overflow}.")
        lines.append(self.how)
        if self.layers is not None:
            lines.append(self.layers.sentence)
        if self.modes is not None:
            sizes = ", ".join(number(abs(complex(m))) for m in self.modes[:4])
            lines.append(f"The leading dynamic modes of the trajectory shown have moduli {sizes}.")
        lines.append(
            f"Thresholds: {percent(self.nearly)} of the trajectories for a verdict; a period explains "
            f"{t.coherence:g} of the late variance; jitter below {t.noise:g} of the norm is a point; "
            f"approaching means shrinking to {t.shrink:g} from quarter to quarter (geometrically: "
            f"{t.slow:g}); a slider's norm grows {t.growth:g}-fold while it turns less than {t.swing:g}; a "
            f"drift puts {t.trend:g} of the variance on a line or {t.arc:g} on an arc. {_sways(self)}"
        )
        return " ".join(line for line in lines if line)


def measure(
    run: Run,
    *,
    extra: int | None = None,
    layers: Sequence[str] | None = None,
    examples: int = 16,
    shown: int = 8,
    dmd: bool = False,
    nearly: float = NEARLY,
    one_point: float = ONE_POINT,
    coherence: float = Thresholds.coherence,
    noise: float = 0.01,
    growth: float = Thresholds.growth,
    trend: float = Thresholds.trend,
    thresholds: Thresholds | None = None,
) -> Cycles:
    """Where the trajectories of a run go, and the limits of its layers.

    Arguments:
        extra: iterations beyond those shown; None: as many as the run has, 64 at least.
        layers: sites of the block's layers in their order; None: every `hook_resid_post` in the
            loop.
        examples: how many are followed for the layers, if they have to be recorded again.
        shown: iterations in the map of all unrolled layers.
        dmd: whether to decompose the trajectory shown into dynamic modes (extra: dmd).
        nearly: the verdict is a kind if this fraction of the trajectories is of it.
        one_point: layers share one point if every cosine to the first's limit is at least this.
        coherence, noise, growth, trend: as in `loopscope.maths.Thresholds`. A loop computes without
            noise, hence 0.01, not 0.1.
        thresholds: the others (these four are taken from the options above).
    """
    lines = replace(thresholds or Thresholds(), coherence=coherence, noise=noise, growth=growth, trend=trend)
    more, after = _followed(run, extra)
    x = vectors(after.states)
    features = measure_features(x)
    result = join_limits([classify_features(features, lines)], tuple(x.shape[1:3]))
    shares = {kind.name: share for kind, share in result.shares().items()}
    first, overflow = after.states.iterations[0], after.overflow
    place = _typical(result.code, result.quality, result.period)
    usable = x[:, place[0], place[1]].double()[: after.last + 1 - first]
    return Cycles(
        verdict=_verdict(shares, nearly),
        shares=shares,
        by_position=torch.stack([(result.code == code).double().mean(0) for code in range(len(KINDS))]),
        code=result.code,
        period=result.period,
        angle=result.angle,
        quality=result.quality,
        overflow=overflow,
        iterations=(first, after.recorded_iterations, after.states.iterations[-1]),
        how=after.description,
        thresholds=lines,
        sensitivity=_sensitivity(features, lines),
        example=place,
        plane=_plane(usable),
        recurrence=recurrence(usable[-_PLOTTED:]) if len(usable) > 2 else None,
        layers=layers_of(run, layers, more, examples, shown=shown, one_point=one_point, after=after)
        if overflow is None
        else None,
        modes=dynamic_modes(usable) if dmd else None,
        nearly=nearly,
    )


def _followed(run: Run, extra: int | None) -> tuple[int, Continuation]:
    """How many iterations beyond it, and the run with them."""
    if extra is not None and extra < 0:
        raise LoopscopeError(f"extra must be iterations, 0 or more, but is {extra}. None takes 64 or more.")
    more = max(64, run.iterations) if extra is None else extra
    after = continue_run(run, more)
    states = len(after.states.iterations)
    if states < _FEWEST:
        raise LoopscopeError(
            f"cycles need {_FEWEST} states or more, but there are {states}. {after.description} Record more "
            "iterations."
        )
    return more, after


def _verdict(shares: dict[str, float], nearly: float) -> Course:
    name, share = max(shares.items(), key=lambda item: item[1])
    return Course[name] if share >= nearly else Course.mixed


def _typical(code: Tensor, quality: Tensor, period: Tensor) -> tuple[int, int]:
    """The place of a trajectory worth showing: an orbit if there is one, else whatever goes on
    moving most."""
    order = ["orbit", "torus", "irregular", "slider", "drifting", "diverging", "fixed_point"]
    rank = torch.tensor([order.index(kind.name) for kind in KINDS])[code.cpu()]
    best = (rank == rank.min()).flatten().nonzero()[:, 0]
    score = quality.cpu().flatten()[best] + (period.cpu().flatten()[best] > 2) * 1.0
    return divmod(int(best[score.nan_to_num(0).argmax()]), code.shape[1])


def _sensitivity(features: Any, lines: Thresholds) -> dict[str, dict[str, Any]]:
    result = {}
    for name, values in _SWEEPS.items():
        all_values = sorted({*values, getattr(lines, name)})
        rows = [
            list(classify_features(features, lines, **{name: value}).shares().values())
            for value in all_values
        ]
        result[name] = {"values": all_values, "shares": torch.tensor(rows, dtype=torch.float64)}
    return result


def _plane(x: Float[Tensor, "state width"]) -> Float[Tensor, "state 2"]:
    if len(x) < 3:
        return x.new_zeros(len(x), 2)
    late = x[len(x) // 2 :]
    _, _, directions = torch.linalg.svd(late - late.mean(0), full_matrices=False)
    seen = (x - late.mean(0)) @ directions[:2].T
    return torch.nn.functional.pad(seen, (0, 2 - seen.shape[1]))


def _periods(result: Cycles) -> str:
    own = result.code == [kind.name for kind in KINDS].index("orbit")
    if not bool(own.any()):
        return ""
    period, angle = result.period[own], result.angle[own]
    whole = period.round() == period
    values, counts = period[whole].unique(return_counts=True)
    parts = [
        f"{int(v)} ({int(c)})"
        for v, c in sorted(zip(values, counts, strict=True), key=lambda vc: -int(vc[1]))[:4]
    ]
    text = f"Whole periods (trajectories): {', '.join(parts)}. " if parts else ""
    if bool((~whole).any()):
        a = angle[~whole]
        text += (
            f"{int((~whole).sum())} orbits never close: they turn by {number(float(a.median()), 6)} radians "
            f"per iteration in the median ({number(float(a.min()))} to {number(float(a.max()))})."
        )
    return text.strip()


def _sways(result: Cycles) -> str:
    most = {}
    for name, sweep in result.sensitivity.items():
        shares = sweep["shares"]
        most[name] = float((shares.max(0).values - shares.min(0).values).max())
    name = max(most, key=lambda key: most[key])
    values = result.sensitivity[name]["values"]
    if most[name] == 0:
        return "No share changes when the thresholds are swept."
    return f"Shares change most with {name}: by up to {percent(most[name])} between {values[0]:g} and {values[-1]:g}."
