"""What shape do the states have: how many directions they fill, how their way bends, and which iterations look alike?

For each tensor of the state (of an HRM-like model both, side by side), and each k:

- participation ratio (sum λ)² / sum λ² and effective rank exp(H(λ / sum λ)) of the covariance of all vectors (examples ×
  positions) after k iterations: how many directions the cloud fills, strictly and with small ones counted.
- step angle: between the steps x_(k+1) - x_k and x_k - x_(k-1) of a trajectory, radians, mean over trajectories: 0 straight on,
  pi/2 at random, pi back and forth.
- similarity: linear CKA between the clouds of any two iterations.
- principal components of all states, and some trajectories in them.

Sources: participation ratio of HRM's states: Wang et al. 2025 (arXiv 2506.21734); effective rank: Roy & Vetterli 2007; CKA:
Kornblith et al. 2019 (arXiv 1905.00414); step angles: Pappone et al. 2025 (arXiv 2509.23314).

What can mislead: a participation ratio can't exceed the number of vectors, and grows with it until the cloud is filled: compare
only equal counts (`vectors`). CKA is biased upwards where vectors are few beside the width. Steps of a settled trajectory are
rounding, and their angles are left out (NaN).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope import drawing
from loopscope.drawing import Panel, number, percent
from loopscope.errors import LoopscopeError
from loopscope.finding import Finding, Verdict
from loopscope.maths import cka_map
from loopscope.maths.dimension import spread, variances
from loopscope.onward import vectors
from loopscope.run import Run
from loopscope.squaremap import square_map

TITLE, PLACE = "Geometry", 45
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
class Geometry(Finding):
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
    """The verdict is `widening` or `narrowing` if the participation ratio changes by this factor."""

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
                f"{f.name}: the participation ratio goes from {number(float(f.ratio[0]))} to {number(float(f.ratio[-1]))} of "
                f"{f.width} directions (effective rank {number(float(f.rank[0]))} to {number(float(f.rank[-1]))}){bend}; the "
                f"first {min(2, len(f.explained))} components hold {percent(float(f.explained[:2].sum()))} of the variance; "
                f"the first and the last state have a CKA of {number(float(f.cka[0, -1]))}."
            )
        if len(self.fields) > 1:
            a, b = self.fields[:2]
            lines.append(
                f"At the end {a.name} fills {number(float(a.ratio[-1] / b.ratio[-1]))} times as many directions as {b.name}."
            )
        lines.append(
            f"Clouds of {self.vectors} vectors; a change counts from a factor of {self.change:g} in the participation ratio."
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
        fields: the state's tensors to measure, such as "state" and "state.low"; None: all that are as wide as the primary one.
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
    found = tuple(_field(run, name, ks, chosen, shown=shown) for name in names)
    return Geometry(
        verdict=_verdict(found[0], change),
        fields=found,
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
            f"'{name}' must have the examples, positions and iterations of the state, but its vectors are {tuple(x.shape)}. "
            "Choose fields that are part of the state."
        )
    cloud = x[:, chosen.to(x.device)]
    variance = variances(cloud)
    size = cloud.square().sum(2).mean(1)
    point = variance.sum(1) <= (_ROUNDING * eps) ** 2 * size
    ratio, rank = (torch.where(point, math.nan, v) for v in spread(variance))
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


def headline(found: Geometry) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    known = found.fields[0].ratio[
        found.fields[0].ratio.isfinite()
    ]  # a start that all examples share fills none
    return (
        f"{float(known[0]):.3g} → {float(known[-1]):.3g}" if len(known) else "none",
        f"directions filled (participation ratio). {found.verdict.sentence}",
    )


def draw(found: Geometry) -> Any:
    """Participation ratio and effective rank by iteration, all fields side by side."""
    figure = drawing.empty("Directions that the states fill", "iterations run", "directions")
    for field, colour in zip(found.fields, drawing.COLOURS * len(found.fields), strict=False):
        for name, values, dash in (
            ("participation ratio", field.ratio, "solid"),
            ("effective rank", field.rank, "dot"),
        ):
            figure.add_scatter(
                x=list(found.states),
                y=[None if v != v else v for v in values.tolist()],
                name=f"{drawing.label(field.name)}: {name}",
                line={"color": colour, "width": 3 if dash == "solid" else 2, "dash": dash},
            )
    figure.update_yaxes(rangemode="tozero")
    return figure


def draw_ways(found: Geometry, field: int = 0) -> Any:
    """Some trajectories in the first two principal components of all states."""
    f = found.fields[field]
    title = f"{drawing.label(f.name)}: {len(found.places)} trajectories in the principal plane"
    axes = [
        f"component {i + 1} ({percent(float(share))} of the variance)"
        for i, share in enumerate(f.explained[:2])
    ]
    figure = drawing.empty(title, axes[0], axes[1] if len(axes) > 1 else "", 480)
    for (example, position), way in zip(found.places, f.components.tolist(), strict=True):
        x, y = ([round(point[i], 5) if len(point) > i else 0.0 for point in way] for i in (0, 1))
        colour = drawing.COLOURS[
            (position if found.places[0][1] != found.places[-1][1] else example) % len(drawing.COLOURS)
        ]
        hover = f"example {example}, position {position}, state %{{text}}<extra></extra>"
        line = {"color": colour, "width": 1}
        figure.add_scatter(
            x=x, y=y, mode="lines+markers", text=list(found.states), hovertemplate=hover, line=line,
            marker={"size": 3}, showlegend=False,
        )  # fmt: skip
        figure.add_scatter(
            x=x[-1:],
            y=y[-1:],
            mode="markers",
            marker={"size": 9, "color": colour},
            showlegend=False,
            hoverinfo="skip",
        )
    return figure


def draw_similarity(found: Geometry, field: int = 0) -> Any:
    """CKA of the states after any two iterations."""
    f = found.fields[field]
    title = f"{drawing.label(f.name)}: similarity of iterations"
    return square_map(title, f.cka, "iterations run", "CKA", labels=found.states, zmax=1)


def panels(found: Geometry) -> list[Panel]:
    """The finding as a report shows it."""
    f = found.fields[0]
    known = f.angle[~f.angle.isnan()]
    bend = (
        f" Successive steps turn by {number(float(known.mean()))} radians in the mean." if len(known) else ""
    )
    return [
        Panel(
            "How many directions the states fill",
            draw(found),
            f"The participation ratio goes from {number(float(f.ratio[0]))} to {number(float(f.ratio[-1]))}, of {f.width}.",
            f"Over clouds of {found.vectors} vectors (examples × positions). Solid counts strong directions, dotted also weak "
            "ones; a fall means that the loop draws states together.",
        ),
        Panel(
            "Trajectories in the principal plane",
            draw_ways(found),
            f"The plane holds {percent(float(f.explained[:2].sum()))} of the variance.{bend}",
            "Each line is one position of one example, its end the large dot.",
        ),
        Panel(
            "Which iterations look alike",
            draw_similarity(found),
            f"The first and the last state have a CKA of {number(float(f.cka[0, -1]))}.",
            "A bright square is a stretch of iterations that no longer changes the picture of all states; rotations and one "
            "common scale don't count as change.",
        ),
    ]
