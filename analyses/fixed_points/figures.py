"""Figures of fixed points: the examples' trajectories and the points that were found."""

from typing import TYPE_CHECKING

from loopscope.common.text import number, plural
from loopscope.plots import style
from loopscope.plots.growing_path import GROWTH_SENTENCE, drawn_path
from loopscope.plots.panels import Panel

from .basins import FixedPoint
from .result import FixedPointsResult, FixedPointsVerdict

if TYPE_CHECKING:
    import plotly.graph_objects as go


DRAWN_STATES = 64


_LARGE = "; large markers of its colour are its fixed points"


def headline(result: FixedPointsResult) -> tuple[str, str]:
    """A short value for a tile, and its caption."""
    total, same = len(result.verdicts), result.verdicts.count(FixedPointsVerdict.one)
    if result.verdict is FixedPointsVerdict.iteration_dependent:
        return "no single map", "the loop receives the iteration index"
    ending = result.outcomes.count("converged")
    of_them = f"; in {same} of them every start that was tried leads to it" if ending else ""
    caption = f"examples end at a fixed point{of_them}"
    return f"{ending} of {total}", caption


def draw(result: FixedPointsResult) -> "go.Figure":
    """The loop's states in their principal plane, with the fixed points that were found."""
    figure = style.empty(_title(result), "first principal component", "second principal component", 460)
    for row, trajectory in enumerate(result.trajectories):
        look = style.example_style(result.rows[row])
        x, y = drawn_path(trajectory[:DRAWN_STATES], result.outcomes[row] == "growing").T.tolist()
        line = {"color": look.colour, "width": 1.5, "dash": look.dash}
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            line=line,
            marker={"size": 3},
            showlegend=len(result.rows) <= style.LEGEND_ENTRIES,
            name=f"example {result.rows[row]}",
            opacity=0.7,
        )
    if len(result.rows) > style.LEGEND_ENTRIES:
        names = {"name": "path of an example (a colour and dash each)", "mode": "lines"}
        figure.add_scatter(x=[None], y=[None], **names, line={"color": style.GREY, "width": 1.5})
    for stable, symbol, name in (
        (True, "circle", "stable"),
        (False, "x", "unstable"),
        (None, "diamond-open", _undecided_reason([p for p in result.points if p.stable is None])),
    ):
        points = [point for point in result.points if point.stable is stable]
        if points:
            figure.add_scatter(
                x=[point.coordinates[0] for point in points],
                y=[point.coordinates[1] for point in points],
                mode="markers",
                marker={
                    "symbol": symbol,
                    "size": 12,
                    "color": [style.example_style(result.rows[p.example]).colour for p in points],
                    "line": {"width": 2, "color": style.GREY if stable else style.RED},
                },
                text=[
                    f"example {result.rows[p.example]}, {_radius_words(p)}{plural(p.visits, 'visit')}"
                    for p in points
                ],
                hovertemplate="%{text}<extra></extra>",
                name=f"fixed point: {name}",
                showlegend=False,
            )
            figure.add_scatter(  # the legend's, which would have the colour of the first example
                x=[None],
                y=[None],
                mode="markers",
                name=f"fixed point: {name}",
                marker={"symbol": symbol, "size": 12, "color": style.GREY},
            )
    return figure


def panels(result: FixedPointsResult) -> list[Panel]:
    """The panels of a report."""
    return [
        Panel(
            _title(result),
            draw(result),
            result.sentence,
            "Each line is one example's states from before the loop on, in the two directions in which they "
            f"vary most{_LARGE if result.points else ''}.{_marker_sentences(result)}"
            f"{_growth_sentence(result)}{result.category_sentence}",
        )
    ]


def _title(result: FixedPointsResult) -> str:
    return "Trajectories and fixed points" if result.points else "Trajectories (no fixed point was found)"


def _growth_sentence(result: FixedPointsResult) -> str:
    return f" {GROWTH_SENTENCE}" if "growing" in result.outcomes else ""


def _marker_sentences(result: FixedPointsResult) -> str:
    """What the markers of the figure mean, of those that it has."""
    undecided = [point for point in result.points if point.stable is None]
    meanings = (
        (any(p.stable is True for p in result.points), "Filled circle: stable."),
        (any(p.stable is False for p in result.points), "Cross: unstable."),
        (bool(undecided), f"Open diamond: {_undecided_reason(undecided)}."),
    )
    return "".join(f" {meaning}" for present, meaning in meanings if present)


def _radius_words(point: FixedPoint) -> str:
    return "" if point.radius != point.radius else f"spectral radius {number(point.radius)}, "


def _undecided_reason(points: list[FixedPoint]) -> str:
    """Why the stability of these points is undecided."""
    reasons = {
        "stability not examined" if p.radius != p.radius else "spectral radius 1, neither stable nor unstable"
        for p in points
    }
    return " or ".join(sorted(reasons, reverse=True))
