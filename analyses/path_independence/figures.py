"""Alignment of every start, by kind."""

from typing import TYPE_CHECKING

from loopscope.common.text import percent, plural
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .result import PathIndependenceResult

if TYPE_CHECKING:
    import plotly.graph_objects as go


def headline(result: PathIndependenceResult) -> tuple[str, str]:
    """The result in one number, and what the number is."""
    share, total = result.evidence.estimates[0], plural(result.examples, "example")
    caption = f"of {result.starts * result.examples} other starts of {total} reach the same end"
    return percent(share.value), caption


def draw(result: PathIndependenceResult) -> "go.Figure":
    """The alignment of every start, by kind."""
    figure = style.empty("Alignment by kind of start", "cosine of the final states", "", 320)
    for kind, colour in zip(result.kinds, style.COLOURS, strict=False):
        figure.add_box(
            x=kind.alignment.flatten().tolist(),
            name=kind.label,
            boxpoints="all",
            jitter=0.5,
            pointpos=0,
            marker={"color": colour, "size": 5},
            line={"width": 1},
        )
    lowest = min((float(kind.alignment.nan_to_num(1.0).min()) for kind in result.kinds), default=0.0)
    figure.update_xaxes(range=[min(0.0, lowest) - 0.05, 1.05])
    figure.update_layout(showlegend=False)
    return figure


def panels(result: PathIndependenceResult) -> list[Panel]:
    """The panels of a report."""
    return [
        Panel(
            "Asymptotic alignment by kind of start",
            draw(result),
            result.sentence,
            "Each point is one example run from one other start; 1 means that its final state has the "
            "direction of the final state from the standard start.",
        )
    ]
