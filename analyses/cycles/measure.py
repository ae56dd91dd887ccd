"""The kind of every trajectory of a run, its period and angle, and the limits of the layers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.arguments import Count, NotNegative, PositiveCount, Share
from loopscope.common.errors import LoopscopeError
from loopscope.common.evidence import Evidence, by_bootstrap, estimate, with_unseen
from loopscope.core.masked import masked_mean
from loopscope.maths import KINDS, Kind, Thresholds, recurrence
from loopscope.maths.dmd import dynamic_modes
from loopscope.maths.late_motion import LATE_MOTIONS, LateMotion
from loopscope.maths.leading_directions import leading_directions
from loopscope.maths.trajectory_features import Features
from loopscope.maths.trajectory_kind import classify_features
from loopscope.plots.growing_path import drawn_path
from loopscope.recorder.extend import Continuation, continue_run, extra_of
from loopscope.runs.run import Run
from loopscope.runs.run_mask import mask_at, require_counted

from .layer_limits import DEGENERACY_THRESHOLD, layer_limits, layer_names
from .result import (
    VERDICT_SHARE,
    CyclesResult,
    CyclesVerdict,
    Sensitivity,
    example_trajectory,
    share_name,
)
from .trajectory_blocks import measured_trajectories, trajectory

_MIN_STATES = 12
_LEAVING = (Kind.slider, Kind.drifting, Kind.diverging)
_RECURRENCE_STATES = 96
_THRESHOLD_VALUES: dict[str, tuple[float, ...]] = {
    "coherence": (0.8, 0.9, 0.95, 0.98, 0.99),
    "noise": (0.001, 0.01, 0.03, 0.1, 0.3),
    "growth": (1.01, 1.02, 1.05, 1.1, 1.2),
    "trend": (0.1, 0.2, 0.3, 0.5, 0.8),
}
"""Values of the thresholds for which the shares are computed."""


# It is long because it has an option for each threshold, and a line for each field.
def measure(
    run: Run,
    *,
    extra: Count | None = None,
    layers: Sequence[str] | None = None,
    examples: PositiveCount = 16,
    unrolled_iterations: PositiveCount = 8,
    dmd: bool = False,
    verdict_share: Share = VERDICT_SHARE,
    degeneracy_threshold: NotNegative = DEGENERACY_THRESHOLD,
    coherence: NotNegative = Thresholds.coherence,
    noise: NotNegative = 0.01,
    growth: NotNegative = Thresholds.growth,
    trend: NotNegative = Thresholds.trend,
    thresholds: Thresholds | None = None,
) -> CyclesResult:
    """Classify the trajectories of a run, and find the limits of its layers.

    Arguments:
        extra: iterations beyond the run; None: as many as the run has, 64 at least.
        layers: sites of the block's layers in their order; None: every `hook_resid_post` in the
            loop.
        examples: how many are used for the layers, if they have to be recorded again.
        unrolled_iterations: iterations in the map of all unrolled layers.
        dmd: whether to decompose the example trajectory into dynamic modes (extra: dmd).
        verdict_share: the verdict is a kind if this fraction of the trajectories is of it.
        degeneracy_threshold: layers share one point if every cosine to the first layer's limit is
            at least this.
        coherence, noise, growth, trend: as in `loopscope.maths.Thresholds`. A loop computes without
            noise, hence 0.01, not 0.1.
        thresholds: the others (these four are taken from the options above).

    Raises:
        LoopscopeError: the run and its extra iterations have fewer than 12 states, no position
            counts, or an option is out of range.
    """
    require_counted(run)
    used = replace(thresholds or Thresholds(), coherence=coherence, noise=noise, growth=growth, trend=trend)
    extra, continued = _continued(run, extra, layers)
    mask = mask_at(run, run.states)
    features, motions = measured_trajectories(continued.states, mask)
    kinds = classify_features(features, used)
    known = judged(kinds.code, features.arc >= used.arc, motions)
    values = {"code": known, **{name: getattr(kinds, name) for name in ("period", "angle", "quality")}}
    values |= {name: values[name].where(known == kinds.code, math.nan) for name in ("period", "angle")}
    grids = {name: _on_grid(value, mask) for name, value in values.items()}
    shares = dict(zip((kind.name for kind in KINDS), _shares(known), strict=True))
    first = continued.states.iterations[0]
    example = example_trajectory(grids["code"], grids["quality"], grids["period"], verdict_share)
    path = trajectory(continued.states, *example)[: continued.last + 1 - first]
    verdict, evidence = _verdict_and_evidence(grids["code"], verdict_share)
    return CyclesResult(
        verdict=verdict,
        evidence=evidence,
        shares=shares,
        shares_by_position=torch.stack(
            [masked_mean((grids["code"] == i).double(), mask, 0) for i in range(len(KINDS))]
        ),
        kind_index=grids["code"],
        period=grids["period"],
        angle=grids["angle"],
        quality=grids["quality"],
        late_motion=_on_grid(motions, mask),
        overflow=continued.overflow,
        iterations=(first, continued.recorded_iterations, continued.states.iterations[-1]),
        continuation=continued.description,
        thresholds=used,
        sensitivity=_sensitivity(features, used, motions),
        example=example,
        projection=_projection(path.double(), KINDS[int(grids["code"][example])] in _LEAVING),
        recurrence=recurrence(path[-_RECURRENCE_STATES:]) if len(path) > 2 else None,
        layers=layer_limits(
            run,
            layers,
            extra,
            examples,
            unrolled_iterations=unrolled_iterations,
            threshold=degeneracy_threshold,
            continued=continued,
        )
        if continued.overflow is None
        else None,
        modes=dynamic_modes(path) if dmd else None,
        verdict_share=verdict_share,
        halts=run.halting is not None,
    )


def _continued(run: Run, extra: int | None, layers: Sequence[str] | None) -> tuple[int, Continuation]:
    """The number of extra iterations, and the run with them, and with its layers if all of them
    were recorded."""
    extra, names = extra_of(run, extra), layer_names(run, layers)
    continued = continue_run(run, extra, names if all(name in run for name in names) else ())
    states = len(continued.states.iterations)
    if states < _MIN_STATES:
        raise LoopscopeError(
            f"cycles need {_MIN_STATES} states or more, but there are {states}. {continued.description} "
            "Record more iterations."
        )
    return extra, continued


def _on_grid(values: Tensor, mask: Bool[Tensor, "batch position"]) -> Tensor:
    """Values of the trajectories that count, (batch, position); elsewhere -1 or NaN."""
    absent = torch.nan if values.is_floating_point() else -1
    result = torch.full(mask.shape, absent, dtype=values.dtype, device=values.device)
    result[mask.to(values.device)] = values
    return result


def _verdict_and_evidence(
    code: Int[Tensor, "batch position"], verdict_share: float
) -> tuple[CyclesVerdict, Evidence]:
    """The verdict by bootstrap over the examples that count, with the share of each kind."""
    rows = (code >= 0).any(1)
    counts = torch.stack([(code[rows] == i).sum(1) for i in range(len(KINDS))], 1).double()

    def shares(draw: Tensor) -> list[float]:
        drawn = counts[draw].sum(0)
        return (drawn / drawn.sum()).tolist()

    verdict, evidence = by_bootstrap(
        lambda draw: verdict_of(
            dict(zip((kind.name for kind in KINDS), shares(draw), strict=True)), verdict_share
        ),
        len(counts),
        unclear=CyclesVerdict.unclear,
    )
    estimates = [
        with_unseen(
            estimate(share_name(KINDS[i]), lambda draw, i=i: shares(draw)[i], len(counts)), len(counts)
        )
        for i in counts.sum(0).nonzero()[:, 0].tolist()
    ]
    return verdict, replace(evidence, estimates=tuple(estimates))


def verdict_of(shares: Mapping[str, float], verdict_share: float = VERDICT_SHARE) -> CyclesVerdict:
    """The verdict on the shares of the kinds, by name.

    Arguments:
        verdict_share: it is a kind if this fraction of the trajectories is of it.
    """
    least, untold = verdict_share - 1e-9, shares["unresolved"]  # of a sum of shares
    name = max((name for name in shares if name != "unresolved"), key=lambda name: shares[name])
    if not math.isfinite(sum(shares.values())):
        return CyclesVerdict.unresolved
    if shares[name] >= least:
        return CyclesVerdict[name]
    return CyclesVerdict.unresolved if shares[name] + untold >= least else CyclesVerdict.mixed


def judged(
    code: Int[Tensor, " row"], smooth: Bool[Tensor, " row"], motion: Int[Tensor, " row"]
) -> Int[Tensor, " row"]:
    """The kinds of trajectories whose steps don't deny them.

    A trajectory whose steps have a finite sum comes to a point, whatever its path looks like as
    yet. One whose path is that of a point drifts, if the path is smooth, where its steps don't
    shrink; where they do, but perhaps have no sum, it is unresolved, as is one that drifts so.
    Unresolved is also one whose path moves though its steps have stopped.

    Arguments:
        code: the number of the kind of the path, in KINDS.
        smooth: whether the second half lies along a curve that doesn't return.
        motion: the number of the late motion, in LATE_MOTIONS.
    """

    def is_of(kinds: tuple[Kind, ...], *motions: LateMotion) -> Bool[Tensor, " row"]:
        kind = torch.tensor([KINDS.index(k) for k in kinds], device=code.device)
        motions_ = torch.tensor([LATE_MOTIONS.index(m) for m in motions], device=motion.device)
        return torch.isin(code, kind) & torch.isin(motion, motions_)

    point, moving = Kind.fixed_point, tuple(k for k in KINDS if k not in (Kind.fixed_point, Kind.unresolved))
    nears = is_of(moving, LateMotion.approaches)
    goes_on = is_of((point,), LateMotion.moves, LateMotion.grows)
    untold = is_of(moving, LateMotion.rests, LateMotion.stops)
    untold |= is_of((point, Kind.slider, Kind.drifting, Kind.diverging), LateMotion.slows)
    result = torch.where(nears, KINDS.index(point), code)
    result = torch.where(goes_on & smooth, KINDS.index(Kind.drifting), result)
    return torch.where(untold | (goes_on & ~smooth), KINDS.index(Kind.unresolved), result)


def _shares(code: Int[Tensor, " row"]) -> list[float]:
    """Fraction of the trajectories of each kind, in the order of KINDS."""
    return (torch.bincount(code, minlength=len(KINDS)).double() / max(1, len(code))).tolist()


def _sensitivity(features: Features, used: Thresholds, motion: Int[Tensor, " row"]) -> dict[str, Sensitivity]:
    result = {}
    for name, tried in _THRESHOLD_VALUES.items():
        values = sorted({*tried, getattr(used, name)})
        kinds = [classify_features(features, used, **{name: value}).code for value in values]
        rows = [_shares(judged(code, features.arc >= used.arc, motion)) for code in kinds]
        result[name] = Sensitivity(values, torch.tensor(rows, dtype=torch.float64))
    return result


def _projection(x: Float[Tensor, "state width"], leaves: bool) -> Float[Tensor, "state 2"]:
    """A trajectory on the two principal directions of its second half.

    The middle of one that leaves where it began is no centre: beside it the first states of one
    that has grown far away would be one point, and less than its rounding apart, and its norm would
    seem to fall. It begins at zero, and ends where both components are positive.
    """
    if len(x) < 3:
        return x.new_zeros(len(x), 2)
    late = x[len(x) // 2 :]
    directions, _ = leading_directions(late - late.mean(0), 2)
    leaves |= len(drawn_path(x, grows=True)) < len(x)
    projected = (x - (x[0] if leaves else late.mean(0))) @ directions.T
    if leaves:
        finite = projected[projected.isfinite().all(1)]
        projected = projected * torch.where(finite[-1] < 0, -1.0, 1.0)
    return torch.nn.functional.pad(projected, (0, 2 - projected.shape[1]))
