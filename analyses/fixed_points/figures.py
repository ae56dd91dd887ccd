"""Figures of fixed points: the examples' trajectories and the points that were found."""

from typing import TYPE_CHECKING

from loopscope.common.text import number
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .basins import FixedPoint
from .result import FixedPointsResult

if TYPE_CHECKING:
    import plotly.graph_objects as go


def headline(result: FixedPointsResult) -> tuple[str, str]:
    """A short value for a tile, and its caption."""
    per_example = len(result.points) / len(result.verdicts)
    return f"{number(per_example)} per example", f"fixed points found. {result.sentence}"


def draw(result: FixedPointsResult) -> "go.Figure":
    """The loop's states in their principal plane, with the fixed points that were found."""
    figure = style.empty(
        "Trajectories and fixed points", "first principal component", "second principal component", 460
    )
    for row, trajectory in enumerate(result.trajectories):
        colour = style.COLOURS[row % len(style.COLOURS)]
        x, y = trajectory[:64].T.tolist()
        line = {"color": colour, "width": 1.5}
        figure.add_scatter(
            x=x, y=y, mode="lines+markers", line=line, marker={"size": 3}, name=f"example {row}", opacity=0.7
        )
    for stable, symbol, name in (
        (True, "circle", "stable"),
        (False, "circle-open", "unstable"),
        (None, "diamond-open", "neutral or not computed"),
    ):
        points = [point for point in result.points if point.stable is stable]
        if points:
            figure.add_scatter(
                x=[point.coordinates[0] for point in points],
                y=[point.coordinates[1] for point in points],
                mode="markers",
                marker={"symbol": symbol, "size": 12, "color": style.RED, "line": {"width": 2}},
                text=[f"example {p.example}, radius {number(p.radius)}, {p.visits} visits" for p in points],
                hovertemplate="%{text}<extra></extra>",
                name=f"fixed point, {name}",
            )
    return figure


def panels(result: FixedPointsResult) -> list[Panel]:
    """The panels of a report."""
    return [
        Panel(
            "Trajectories and fixed points",
            draw(result),
            result.sentence,
            "Each line is one example's states from before the loop on, in the two directions in which they "
            f"vary most.{_marker_sentences(result)}",
        )
    ]


def _marker_sentences(result: FixedPointsResult) -> str:
    """What the markers of the figure mean, of those that it has."""
    undecided = [point for point in result.points if point.stable is None]
    meanings = (
        (any(p.stable is True for p in result.points), "Filled circle: stable."),
        (any(p.stable is False for p in result.points), "Open circle: unstable."),
        (bool(undecided), f"Open diamond: {_undecided_reason(undecided)}."),
    )
    return "".join(f" {meaning}" for present, meaning in meanings if present)


def _undecided_reason(points: list[FixedPoint]) -> str:
    """Why the stability of these points is undecided."""
    reasons = {
        "stability not computed" if p.radius != p.radius else "spectral radius 1 within its error"
        for p in points
    }
    return " or ".join(sorted(reasons, reverse=True))
