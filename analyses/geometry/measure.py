"""Participation ratio, effective rank, step angles, CKA and principal components of a run's
states."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.arguments import Meaning, Seed
from loopscope.common.errors import LoopscopeError
from loopscope.common.evidence import Evidence, by_bootstrap, estimate
from loopscope.maths.dimension import effective_dimensions, variances
from loopscope.maths.precision import RESOLVED, can_tell_rest, resolution, rounding
from loopscope.maths.similarity import cka_of_sets
from loopscope.recorder.extend import vector_shape
from loopscope.runs.run import Run
from loopscope.runs.run_mask import mask_at

from .drawn_vectors import DrawnVectors
from .result import CHANGE, CHANGE_FACTOR, FieldGeometry, GeometryResult, GeometryVerdict, verdict_of
from .step_angles import step_angles

_Several = Annotated[int, Ge(2), Meaning("a whole number, 2 or more")]
_Factor = Annotated[float, Gt(1), Meaning("a number above 1")]
MAX_VECTORS = 1024
_TRAJECTORIES, _COMPONENTS = 24, 6


def measure(
    run: Run,
    *,
    fields: str | Sequence[str] | None = None,
    max_vectors: _Several = MAX_VECTORS,
    change_factor: _Factor = CHANGE_FACTOR,
    seed: Seed = 0,
) -> GeometryResult:
    """Measure the shape of a run's states.

    Arguments:
        fields: the state's tensors to measure, such as "state" and "state.low"; None: all that are
            as wide as the primary one.
        max_vectors: how many vectors of each state are measured; drawn once, the same for every
            state.
        change_factor: the participation ratio has changed if it differs by this factor.
        seed: of that draw.

    Raises:
        LoopscopeError: the states aren't finite, fewer than 2 were kept, or an option is out of
            range.
    """
    run.require_finite()
    if fields is not None and not len(fields):
        raise LoopscopeError(
            "fields must name one tensor of the state or more, but is empty. None takes all."
        )
    names = _fields(run) if fields is None else [fields] if isinstance(fields, str) else list(fields)
    ks = run.states.iterations
    if len(ks) < 2:
        raise LoopscopeError(
            f"geometry needs 2 states or more, but the run kept {len(ks)}. Record again without keep=."
        )
    places = mask_at(run, run[names[0]]).nonzero()
    total = len(places)
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randperm(total, generator=generator)[:max_vectors].sort().values
    drawn = sample[:: max(1, len(sample) // _TRAJECTORIES)][:_TRAJECTORIES]
    result = tuple(_field(run, name, ks, sample, trajectories=drawn) for name in names)
    cloud = DrawnVectors(run[names[0]], places[sample])
    verdict, evidence = _verdict_and_evidence(cloud, result[0], places[sample, 0], change_factor)
    return GeometryResult(
        verdict=verdict,
        evidence=evidence,
        fields=result,
        states=tuple(ks),
        trajectories=tuple((int(example), int(position)) for example, position in places[drawn]),
        vectors=len(sample),
        change_factor=change_factor,
    )


def _fields(run: Run) -> list[str]:
    """The state's tensors that have the primary one's iterations, examples, positions and width."""
    shape = vector_shape(run.states)
    others = [name for name in run.names if name.startswith("state.") and "@" not in name]
    return ["state", *(name for name in others if vector_shape(run[name]) == shape)]


def _field(run: Run, name: str, ks: list[int], sample: Tensor, *, trajectories: Tensor) -> FieldGeometry:
    states, mask = run[name], mask_at(run, run[name])
    places = mask.nonzero()
    eps = resolution(states[ks[-1]].dtype)
    if states.iterations != ks or sample.max() >= len(places):
        raise LoopscopeError(
            f"'{name}' must have the examples, positions and iterations of the state, but its vectors are "
            f"{len(places)} in {len(states.iterations)} iterations. Choose fields that are part of the state."
        )
    cloud = DrawnVectors(states, places[sample])
    variance = torch.stack([variances(x) for x in cloud])
    size = torch.stack([x.square().sum(1).mean() for x in cloud])
    is_point, resolved = _points(variance.sum(1).sqrt(), size.sqrt(), eps)
    ratio, rank = (torch.where(is_point, math.nan, v) for v in effective_dimensions(variance))
    mean = cloud.mean()
    sizes, directions = _principal(cloud, mean)
    count = min(_COMPONENTS, len(sizes))
    few = DrawnVectors(states, places[trajectories])
    components = torch.stack([(x - mean) @ directions[:count].T for x in few])
    power = sizes.square()
    return FieldGeometry(
        name=name,
        participation_ratio=ratio,
        effective_rank=rank,
        step_angle=step_angles(states, mask, eps),
        cka=cka_of_sets(cloud).masked_fill(is_point[:, None] | is_point, math.nan),
        components=components.transpose(0, 1).float(),
        explained=(power / power.sum().clamp(min=1e-300))[:count],
        width=len(mean),
        resolved=resolved,
    )


def _points(
    spread: Float[Tensor, " state"], norm: Float[Tensor, " state"], eps: float
) -> tuple[Bool[Tensor, " state"], Bool[Tensor, " state"]]:
    """(whether all vectors are equal, to rounding or beside how far they have been apart; whether
    the precision can tell)."""
    before = spread.cummax(0).values
    is_point = spread <= torch.maximum(rounding(norm, eps), RESOLVED * before)
    scale = torch.where(before > rounding(norm, eps), before, norm)
    resolved = ~is_point | can_tell_rest(norm, scale, eps)
    resolved[0] |= spread[0] == 0  # a start that all share, which no rounding has made so
    return is_point, resolved


def _principal(
    cloud: DrawnVectors, mean: Float[Tensor, " width"]
) -> tuple[Float[Tensor, " direction"], Float[Tensor, "direction width"]]:
    """(sizes, principal directions) of all vectors less their mean, from one state after the
    other."""
    width = len(mean)
    rows = torch.empty(0, width, dtype=mean.dtype, device=mean.device)
    for x in cloud:
        rows = torch.cat([rows, x - mean])
        rows = torch.linalg.qr(rows, mode="r").R if len(rows) > width else rows
    _, sizes, directions = torch.linalg.svd(rows, full_matrices=False)
    return sizes, directions


def _verdict_and_evidence(
    cloud: DrawnVectors,
    field: FieldGeometry,
    rows: Int[Tensor, " vector"],
    change_factor: float,
) -> tuple[GeometryVerdict, Evidence]:
    """The verdict by bootstrap over examples, with the participation ratio's change.

    Arguments:
        cloud: the vectors that were measured of each state.
        rows: the example of each vector.
    """
    ratio = field.participation_ratio
    resolved = bool(field.resolved[0] & field.resolved[-1])
    known = (~ratio.isnan()).nonzero()[:, 0]
    count = len(rows.unique())
    members = [(rows == row).nonzero()[:, 0] for row in rows.unique()]
    ends = (cloud[int(known[0]) if len(known) else 0], cloud[len(cloud) - 1])

    def ratios(draw: Tensor) -> tuple[float, float]:
        drawn = torch.cat([members[i] for i in draw.tolist()])
        first, last = (_participation_ratio(x[drawn], x) for x in ends)
        return first if len(known) else math.nan, math.nan if math.isnan(float(ratio[-1])) else last

    verdict, evidence = by_bootstrap(
        lambda draw: verdict_of(*ratios(draw), resolved=resolved, change_factor=change_factor),
        count,
        unclear=GeometryVerdict.unclear,
        least=2,
    )
    if len(known) < 2 or math.isnan(float(ratio[-1])):
        return verdict, evidence
    change = estimate(CHANGE, lambda draw: ratios(draw)[1] / ratios(draw)[0], count)
    return verdict, replace(evidence, estimates=(change,))


def _participation_ratio(x: Float[Tensor, "vector width"], every: Float[Tensor, "more width"]) -> float:
    """(sum λ)² / sum λ² of the covariance, from the smaller of its two products.

    A sample in which all vectors are equal, though not all vectors are, has 1: it can't have more.
    """
    x = x - x.mean(0)
    if float(x.square().mean()) <= RESOLVED**2 * float((every - every.mean(0)).square().mean()):
        return 1.0
    product = x.T @ x if len(x) > x.shape[1] else x @ x.T
    return float(product.trace()) ** 2 / float(product.square().sum())
