"""Figures of path independence: the panels and the headline that a report shows."""

from typing import Any

from loopscope.common.text import number
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .measure import PathIndependence


def headline(result: PathIndependence) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    return number(result.alignment, 4), f"asymptotic alignment. {result.verdict.sentence}"


def draw(result: PathIndependence) -> Any:
    """The alignment of every start, by kind."""
    figure = style.empty("Where other starts lead", "cosine to the example's own end", "kind of start", 320)
    for kind, colour in zip(result.kinds, style.COLOURS, strict=False):
        figure.add_box(
            x=kind.alignment.flatten().tolist(),
            name=kind.name,
            boxpoints="all",
            jitter=0.5,
            pointpos=0,
            marker={"color": colour, "size": 5},
            line={"width": 1},
        )
    figure.update_layout(showlegend=False)
    return figure


def panels(result: PathIndependence) -> list[Panel]:
    """The finding as a report shows it."""
    return [
        Panel(
            "Where other starts lead",
            draw(result),
            result.verdict.sentence,
            "Each point is one example run from one other start; 1 means that it ended in the direction of "
            "the example's own end.",
        )
    ]
