"""Figures of fixed points: the examples' trajectories and the points that were found."""

from typing import TYPE_CHECKING

from loopscope.common.text import number
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .result import FixedPointsResult

if TYPE_CHECKING:
    import plotly.graph_objects as go


def headline(result: FixedPointsResult) -> tuple[str, str]:
    """A short value for a tile, and its caption."""
    per_example = len(result.points) / len(result.verdicts)
    return f"{number(per_example)} per example", f"fixed points found. {result.verdict.sentence}"


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
        (None, "diamond-open", "not examined"),
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
            result.verdict.sentence,
            "Each line is one example's states from before the loop on, in the two directions in which they "
            "vary most. Filled circles are stable fixed points; open ones repel in some direction.",
        )
    ]
