"""Figures of fixed points: the panels and the headline that a report shows."""

from typing import Any

from loopscope.common.text import number
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .measure import FixedPoints


def headline(result: FixedPoints) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    each = len(result.points) / len(result.fates)
    return f"{number(each)} per example", f"fixed points found. {result.verdict.sentence}"


def draw(result: FixedPoints) -> Any:
    """The loop's states in the plane, with the fixed points that were found."""
    figure = style.empty(
        "Fixed points, and the loop's way to them",
        "first principal component",
        "second principal component",
        460,
    )
    for row, path in enumerate(result.paths):
        colour = style.COLOURS[row % len(style.COLOURS)]
        x, y = path[:64].T.tolist()
        line = {"color": colour, "width": 1.5}
        figure.add_scatter(
            x=x, y=y, mode="lines+markers", line=line, marker={"size": 3}, name=f"example {row}", opacity=0.7
        )
    for kind, symbol, name in (
        (True, "circle", "stable"),
        (False, "circle-open", "unstable"),
        (None, "diamond-open", "not examined"),
    ):
        some = [p for p in result.points if p.stable is kind]
        if some:
            figure.add_scatter(
                x=[p.place[0] for p in some],
                y=[p.place[1] for p in some],
                mode="markers",
                marker={"symbol": symbol, "size": 12, "color": style.RED, "line": {"width": 2}},
                text=[f"example {p.example}, radius {number(p.radius)}, {p.visits} visits" for p in some],
                hovertemplate="%{text}<extra></extra>",
                name=f"fixed point, {name}",
            )
    return figure


def panels(result: FixedPoints) -> list[Panel]:
    """The finding as a report shows it."""
    return [
        Panel(
            "The fixed points, and the way there",
            draw(result),
            result.verdict.sentence,
            "Each line is one example's states from before the loop on, seen in the two directions in which "
            "they vary most; filled "
            "circles are fixed points that attract, open ones repel in some direction.",
        )
    ]
