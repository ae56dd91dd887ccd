"""Figures of the geometry of states: dimensions, trajectories and similarity."""

from typing import TYPE_CHECKING

from loopscope.common.text import number, percent
from loopscope.plots import style
from loopscope.plots.heatmaps import square_heatmap
from loopscope.plots.panels import Panel

from .result import FieldGeometry, GeometryResult, ratio_text, similarity_sentence

if TYPE_CHECKING:
    import plotly.graph_objects as go


def headline(result: GeometryResult) -> tuple[str, str]:
    """A short value for a tile, and its caption."""
    # A start that all examples share is a point, which has no participation ratio.
    ratio = result.fields[0].participation_ratio
    known = ratio.isfinite().nonzero()[:, 0].tolist()
    if not known:
        return "one point", "no participation ratio: all states are equal"
    first, last = known[0], known[-1]
    return (
        f"{number(float(ratio[first]), 2)} → {number(float(ratio[last]), 2)}",
        f"participation ratio, k = {result.states[first]} to {result.states[last]}",
    )


_DRAWN = (
    ("participation ratio", "participation_ratio", "solid"),
    ("effective rank", "effective_rank", "dot"),
)
"""By name: the field of the numbers, and the dash of the line."""


def draw(result: GeometryResult) -> "go.Figure":
    """Participation ratio and effective rank by iteration, for every field of the state."""
    figure = style.empty(
        "Participation ratio and effective rank of the states", "iterations run (k)", "dimensions"
    )
    for (label, field), colour in zip(_distinct(result), style.COLOURS * len(result.fields), strict=False):
        for name, quantity, dash in _DRAWN:
            figure.add_scatter(
                x=list(result.states),
                y=[None if v != v else v for v in getattr(field, quantity).tolist()],
                name=f"{style.label(label)}: {name}",
                line={"color": colour, "width": 3 if dash == "solid" else 2, "dash": dash},
            )
    figure.update_yaxes(rangemode="tozero")
    return figure


def _distinct(result: GeometryResult) -> list[tuple[str, FieldGeometry]]:
    """The fields with their names; those of the same numbers are one, as their lines would lie on
    one another."""
    fields: list[tuple[str, FieldGeometry]] = []
    for field in result.fields:
        for i, (label, other) in enumerate(fields):
            pairs = (
                (getattr(field, of).nan_to_num(), getattr(other, of).nan_to_num()) for _, of, _ in _DRAWN
            )
            if all(a.equal(b) for a, b in pairs):
                fields[i] = (f"{label} and {field.name}", other)
                break
        else:
            fields.append((field.name, field))
    return fields


def draw_trajectories(result: GeometryResult, field: int = 0) -> "go.Figure":
    """Some trajectories in the first two principal components of all states."""
    geometry = result.fields[field]
    title = f"{geometry.name}: {len(result.trajectories)} trajectories of all examples in one principal plane"
    axes = [
        f"component {i + 1} ({percent(float(fraction))} of the variance)"
        for i, fraction in enumerate(geometry.explained[:2])
    ]
    figure = style.empty(title, axes[0], axes[1] if len(axes) > 1 else "", 480)
    for (example, position), states in zip(result.trajectories, geometry.components.tolist(), strict=True):
        x, y = ([round(state[i], 5) if len(state) > i else 0.0 for state in states] for i in (0, 1))
        look = style.example_style(example)
        hover = f"example {example}, position {position}, state %{{text}}<extra></extra>"
        line = {"color": look.colour, "width": 1, "dash": look.dash}
        figure.add_scatter(
            x=x, y=y, mode="lines+markers", text=list(result.states), hovertemplate=hover, line=line,
            marker={"size": 3}, showlegend=False,
        )  # fmt: skip
        figure.add_scatter(
            x=x[-1:],
            y=y[-1:],
            mode="markers",
            marker={"size": 9, "color": look.colour, "symbol": look.symbol},
            showlegend=False,
            hoverinfo="skip",
        )
    return figure


def draw_similarity(result: GeometryResult, field: int = 0) -> "go.Figure":
    """CKA of the states after any two iterations."""
    geometry = result.fields[field]
    title = f"{geometry.name}: similarity of iterations"
    return square_heatmap(
        title, geometry.cka, "iterations run (k)", "CKA", labels=result.states, zmin=0, zmax=1
    )


def panels(result: GeometryResult) -> list[Panel]:
    """The panels of a report."""
    field = result.fields[0]
    angles = field.step_angle[~field.step_angle.isnan()]
    turn = (
        f" Successive steps differ in direction by {number(float(angles.mean()))} radians on average."
        if len(angles)
        else ""
    )
    return [
        Panel(
            "Participation ratio and effective rank",
            draw(result),
            f"The participation ratio{ratio_text(field, result.states)}, of at most {field.width}.",
            f"Computed over {result.vectors} vectors (examples × positions) after each iteration. Solid: "
            "participation ratio. Dotted: effective rank, which gives more weight to directions of small "
            "variance. A fall means that the states come to lie in fewer dimensions.",
        ),
        Panel(
            "Trajectories of several examples in one principal plane",
            draw_trajectories(result),
            f"The plane holds {percent(float(field.explained[:2].sum()))} of the variance.{turn}",
            "Each line is one position of one example, and its colour is the example; the large marker is "
            "its last state.",
        ),
        Panel(
            "Similarity of iterations (CKA)",
            draw_similarity(result),
            similarity_sentence(field, result.states),
            "A bright square is a range of iterations whose states are alike. CKA ignores rotations and a "
            "common scale.",
        ),
    ]
