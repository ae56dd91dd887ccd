"""The measurement: geometry of a run. See the package for the question and its references."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.text import number, percent
from loopscope.maths import cka_map
from loopscope.maths.dimension import effective_dimensions, variances
from loopscope.recorder.extend import vectors
from loopscope.runs.run import Run

CHANGE, VECTORS = 1.25, 1024
_TRAJECTORIES, _COMPONENTS, _ROUNDING = 24, 6, 50.0


class Shape(Verdict):
    """How the cloud of states changes over the iterations."""

    widening = "The states spread out: the loop brings them into more directions."
    narrowing = "The states draw together: the loop leaves them fewer directions."
    steady = "The states keep their shape: they fill about as many directions at the end as at the start."
    collapsed = "The states collapse onto a point: all positions end alike."


@dataclass(frozen=True)
class Field:
    """One tensor of the state. `state` counts k as recorded."""

    name: str
    ratio: Float[Tensor, " state"]
    """Participation ratio of the cloud, 1 .. min(width, vectors); NaN for a point."""
    rank: Float[Tensor, " state"]
    """Its effective rank."""
    angle: Float[Tensor, " turn"]
    """Mean angle between successive steps, radians; NaN once they are rounding."""
    cka: Float[Tensor, "state state"]
    """Similarity of the clouds after any two iterations, 0..1."""
    components: Float[Tensor, "trajectory state component"]
    """Some trajectories in the principal components of all states."""
    explained: Float[Tensor, " component"]
    """Fraction of the variance of each component."""
    width: int


@dataclass(frozen=True)
class Geometry(AnalysisResult):
    """The shape of a run's states."""

    verdict: Shape
    fields: tuple[Field, ...]
    """The state's tensors, the primary one first."""
    states: tuple[int, ...]
    """The k of each state."""
    places: tuple[tuple[int, int], ...]
    """(example, position) of the trajectories in `components`."""
    vectors: int
    """Vectors in each cloud."""
    change: float
    """The verdict is `widening` or `narrowing` if the participation ratio changes by this
    factor."""

    def summary(self) -> str:
        lines = [self.verdict.sentence]
        for f in self.fields:
            known = f.angle[~f.angle.isnan()]
            bend = (
                f"; successive steps turn by {number(float(known.mean()))} radians in the mean"
                if len(known)
                else ""
            )
            lines.append(
                f"{f.name}: the participation ratio goes from {number(float(f.ratio[0]))} to "
                f"{number(float(f.ratio[-1]))} of {f.width} directions (effective rank "
                f"{number(float(f.rank[0]))} to {number(float(f.rank[-1]))}){bend}; the first "
                f"{min(2, len(f.explained))} components hold {percent(float(f.explained[:2].sum()))} of the "
                f"variance; the first and the last state have a CKA of {number(float(f.cka[0, -1]))}."
            )
        if len(self.fields) > 1:
            a, b = self.fields[:2]
            lines.append(
                f"At the end {a.name} fills {number(float(a.ratio[-1] / b.ratio[-1]))} times as many "
                f"directions as {b.name}."
            )
        lines.append(
            f"Clouds of {self.vectors} vectors; a change counts from a factor of {self.change:g} in the "
            "participation ratio."
        )
        return " ".join(lines)


def measure(
    run: Run,
    *,
    fields: Sequence[str] | None = None,
    most: int = VECTORS,
    change: float = CHANGE,
    seed: int = 0,
) -> Geometry:
    """The shape of a run's states.

    Arguments:
        fields: the state's tensors to measure, such as "state" and "state.low"; None: all that are
            as wide as the primary one.
        most: vectors taken of each state, drawn once for all; more cost more.
        change: the factor in the participation ratio from which on it has changed.
        seed: of that draw.
    """
    run.require_finite()
    if most < 2 or not change > 1:
        raise LoopscopeError(
            f"most must be 2 vectors or more and change above 1, but they are {most!r} and {change!r}."
        )
    names = _fields(run) if fields is None else [fields] if isinstance(fields, str) else list(fields)
    ks = run.states.iterations
    if len(ks) < 2:
        raise LoopscopeError(
            f"geometry needs 2 states or more, but the run kept {len(ks)}. Record again without keep=."
        )
    primary = vectors(run[names[0]])
    total = primary.shape[1] * primary.shape[2]
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(total, generator=generator)[:most].sort().values
    shown = chosen[:: max(1, len(chosen) // _TRAJECTORIES)][:_TRAJECTORIES]
    result = tuple(_field(run, name, ks, chosen, shown=shown) for name in names)
    return Geometry(
        verdict=_verdict(result[0], change),
        fields=result,
        states=tuple(ks),
        places=tuple(divmod(int(i), primary.shape[2]) for i in shown),
        vectors=len(chosen),
        change=change,
    )


def _fields(run: Run) -> list[str]:
    like = vectors(run.states[:1] if 0 in run.states.iterations else run.states).shape[-1]
    others = [name for name in run.names if name.startswith("state.") and "@" not in name]
    return ["state", *(name for name in others if vectors(run[name]).shape[-1] == like)]


def _field(run: Run, name: str, ks: list[int], chosen: Tensor, *, shown: Tensor) -> Field:
    x = vectors(run[name]).flatten(1, 2).double()  # (state, vector, width)
    eps = torch.finfo(run[name][ks[-1]].dtype).eps
    if len(x) != len(ks) or chosen.max() >= x.shape[1]:
        raise LoopscopeError(
            f"'{name}' must have the examples, positions and iterations of the state, but its vectors are "
            f"{tuple(x.shape)}. Choose fields that are part of the state."
        )
    cloud = x[:, chosen.to(x.device)]
    variance = variances(cloud)
    size = cloud.square().sum(2).mean(1)
    point = variance.sum(1) <= (_ROUNDING * eps) ** 2 * size
    ratio, rank = (torch.where(point, math.nan, v) for v in effective_dimensions(variance))
    flat = cloud.flatten(0, 1)
    middle = flat.mean(0)
    _, sizes, directions = torch.linalg.svd(_squeezed(flat - middle), full_matrices=False)
    count = min(_COMPONENTS, len(sizes))
    seen = (x[:, shown.to(x.device)] - middle) @ directions[:count].T
    power = sizes.square()
    return Field(
        name=name,
        ratio=ratio,
        rank=rank,
        angle=_angles(x, eps),
        cka=cka_map(cloud),
        components=seen.transpose(0, 1).float(),
        explained=(power / power.sum().clamp(min=1e-300))[:count],
        width=x.shape[-1],
    )


def _squeezed(x: Float[Tensor, "sample width"]) -> Float[Tensor, "width width"]:
    """A small matrix with the same principal directions."""
    return torch.linalg.qr(x, mode="r").R if len(x) > x.shape[1] else x


def _angles(x: Float[Tensor, "state vector width"], eps: float) -> Float[Tensor, " turn"]:
    steps = x[1:] - x[:-1]
    size = steps.norm(dim=2)
    moves = size > _ROUNDING * eps * x[1:].norm(dim=2)
    known = moves[1:] & moves[:-1]
    cosine = torch.nn.functional.cosine_similarity(steps[1:], steps[:-1], dim=2, eps=1e-300).clamp(-1, 1)
    return torch.where(known, cosine.acos(), 0).sum(1) / torch.where(known.any(1), known.sum(1), math.nan)


def _verdict(field: Field, change: float) -> Shape:
    first, last = float(field.ratio[0]), float(field.ratio[-1])
    if math.isnan(last):
        return Shape.collapsed
    if math.isnan(first) or last >= change * first:
        return Shape.widening
    return Shape.narrowing if last * change <= first else Shape.steady
