"""square_map: a heat map of things against the same things, such as all unrolled layers."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from . import style
from .style import SCALE, colourbar, empty


def map_of(
    cells: list[list[float | None]],
    title: str,
    y: str,
    quantity: str,
    *,
    hover: str,
    height: int = 420,
    **more: Any,
) -> Any:
    """A heat map of positions (to the right) and iterations (downwards, as one reads).

    Arguments:
        cells: (iteration, position); None where there is nothing.
        y: name of the iterations' axis.
        quantity: what the colours are.
        hover: plotly's template of what a cell tells.
        more: of plotly's heat map, such as zmin, or `bar` for its colour bar.
    """
    figure = empty(title, "position", y, height)
    bar = colourbar(quantity, **more.pop("bar", {}))
    figure.add_heatmap(
        z=cells, colorscale=SCALE, colorbar=bar, hovertemplate=f"{hover}<extra></extra>", **more
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False)
    figure.update_xaxes(showgrid=False, zeroline=False)
    for axis, count in (("yaxis", len(cells)), ("xaxis", len(cells[0]) if cells else 0)):
        if count <= 12:  # left alone, plotly puts marks between the whole numbers
            figure.update_layout({axis: {"dtick": 1}})
    return figure


def square_map(
    title: str,
    values: Tensor | None,
    axis: str,
    quantity: str,
    *,
    labels: Sequence[Any],
    digits: int = 4,
    **more: Any,
) -> Any:
    """A square heat map, read like a text from the upper left.

    Arguments:
        values: (item, item); None for an empty figure.
        labels: what each item is called when it is pointed at; numbers also count along the axes.
        more: of plotly's heat map, such as zmax.
    """
    figure = style.empty(title, axis, axis, 460)
    if values is None:
        return figure
    numbers = all(isinstance(label, int) for label in labels)
    figure.add_heatmap(
        z=[[None if v != v else round(v, digits) for v in row] for row in values.tolist()],
        **({"x": list(labels), "y": list(labels)} if numbers else {}),
        text=[[f"{a} and {b}" for b in labels] for a in labels],
        colorscale=style.SCALE,
        colorbar=style.colourbar(quantity),
        hovertemplate="%{text}: %{z}<extra></extra>",
        **more,
    )
    figure.update_yaxes(autorange="reversed", scaleanchor="x", scaleratio=1, showgrid=False)
    figure.update_xaxes(showgrid=False)
    return figure


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
        cells: z, text and customdata, each (iteration, position), as a frame of a panel updates
            them.
        hover: plotly's template of what a cell tells.
        more: of plotly's heat map, such as colorscale, zmin, zmax.
    """
    figure = style.empty(title, "position", y, min(760, 150 + 18 * len(iterations)))
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
    return style.label(symbol if symbol.strip() else repr(symbol))
