"""Alignment of every start, by kind."""

from typing import TYPE_CHECKING

from loopscope.common.text import percent, plural
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .result import PathIndependenceResult, PathIndependenceVerdict

if TYPE_CHECKING:
    import plotly.graph_objects as go


_ENDS = ("converged", "unstable")
_NO_ENDS = (
    PathIndependenceVerdict.restless,
    PathIndependenceVerdict.approaching,
    PathIndependenceVerdict.diverging,
    PathIndependenceVerdict.unresolved,
)


def headline(result: PathIndependenceResult) -> tuple[str, str]:
    """The result in one number, and what the number is."""
    share, total = result.evidence.estimates[0], plural(result.examples, "example")
    caption = f"of {result.starts * result.examples} other starts of {total} reach the same end"
    return percent(share.value), caption


def draw(result: PathIndependenceResult) -> "go.Figure":
    """The alignment of every start, by kind, of the examples whose ends were compared."""
    figure = style.empty("Alignment by kind of start", "cosine of the final states", "", 320)
    rows = _ending(result)
    for kind, colour in zip(result.kinds, style.COLOURS, strict=False):
        figure.add_box(
            x=kind.alignment[rows].flatten().tolist(),
            name=kind.label,
            boxpoints="all",
            jitter=0.5,
            pointpos=0,
            marker={"color": colour, "size": 5},
            line={"width": 1},
        )
    drawn = [kind.alignment[rows].nan_to_num(1.0) for kind in result.kinds if rows]
    lowest = min((float(values.min()) for values in drawn), default=0.0)
    figure.update_xaxes(range=[min(0.0, lowest) - 0.05, 1.05])
    figure.update_layout(showlegend=False)
    return figure


def panels(result: PathIndependenceResult) -> list[Panel]:
    """The panels of a report; none where no example has ends to compare."""
    count, total = len(_ending(result)), len(result.outcomes)
    if not count:
        return []
    left_out = (
        f" Left out are the {total - count} of {plural(total, 'example')} whose ends can't be compared."
        if count < total
        else ""
    )
    return [
        Panel(
            "Asymptotic alignment by kind of start",
            draw(result),
            result.sentence,
            "Each point is one example run from one other start; 1 means that its final state has the "
            "direction of the final state from the standard start. A cosine ignores length: the same end "
            f"also needs a relative distance of {result.near:g} or less.{left_out}",
        )
    ]


def _ending(result: PathIndependenceResult) -> list[int]:
    """The examples whose own loop comes to an end, or reaches the same state from all starts: a
    cosine to a state that still moves or grows says nothing of ends."""
    pairs = enumerate(zip(result.outcomes, result.verdicts, strict=True))
    return [row for row, (end, verdict) in pairs if end in _ENDS or verdict not in _NO_ENDS]
