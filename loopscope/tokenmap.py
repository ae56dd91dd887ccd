"""token_map: a table of tokens, iterations downwards and positions to the right, as a heat map with words in its cells."""

from collections.abc import Mapping, Sequence
from typing import Any

from . import drawing

WIDEST, LONGEST = 64, 72
"""Positions and iterations up to which the tokens are written into the cells."""


def token_map(
    title: str,
    cells: Mapping[str, Any],
    iterations: Sequence[int],
    positions: int,
    *,
    hover: str,
    y: str = "iterations run",
    **more: Any,
) -> Any:
    """The figure of such a table.

    Arguments:
        cells: z, text and customdata, each (iteration, position), as a frame of a panel updates them.
        hover: plotly's template of what a cell tells.
        more: of plotly's heat map, such as colorscale, zmin, zmax.
    """
    figure = drawing.empty(title, "position", y, min(760, 150 + 18 * len(iterations)))
    written = positions <= WIDEST and len(iterations) <= LONGEST
    figure.add_heatmap(
        **cells,
        y=list(iterations),
        xgap=1 if written else 0,
        ygap=1 if written else 0,
        texttemplate="%{text}" if written else None,
        hovertemplate=f"{hover}<extra></extra>",
        **more,
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False)
    figure.update_xaxes(showgrid=False, zeroline=False, range=[-0.5, positions - 0.5])
    for axis, count in (("yaxis", len(iterations)), ("xaxis", positions)):
        if count <= 12:  # left alone, plotly puts marks between the whole numbers
            figure.update_layout({axis: {"dtick": 1}})
    return figure


def shown(symbol: str) -> str:
    """A token as a label: literal, and visible if it is a blank."""
    return drawing.label(symbol if symbol.strip() else repr(symbol))
