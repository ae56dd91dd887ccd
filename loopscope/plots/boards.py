"""Boards: the cells of a grid as they lie, with what was given, what is correct and what is wrong.

Two boards stand side by side: the model's answer, and the solution. Colour and sign say the same.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .heatmaps import token_label
from .style import ORANGE, SKY, empty

if TYPE_CHECKING:
    import plotly.graph_objects as go

GIVEN, WRONG, CORRECT, SOLUTION = 0, 1, 2, 3
"""Kinds of cells."""
KIND_COLOURS = ("#a9afb8", ORANGE, SKY, "#e6e8eb")
INK = "#15181c"
"""Of the signs in cells, which have their own background in the light and the dark theme."""
_BORDER = "#4a515b"
_SIGNS = ("", " ✗", " ✓", "")
_NAMES = ("given", "wrong", "correct")
_CELL, _HALF = 64, 340
"""Pixels: height of a cell, at most; width of two boards in half a page, which makes it less."""


def board_cells(
    symbols: Sequence[str], kinds: Sequence[int], shape: tuple[int, int], hover: Sequence[Any] | None = None
) -> dict[str, Any]:
    """One board as a trace's z, text and customdata, each (row, column), for a panel's frames.

    Arguments:
        symbols: what stands in each cell, in reading order; plain text.
        kinds: GIVEN, WRONG, CORRECT or SOLUTION of each.
        hover: what `hover` of `board_figure` shows as customdata, for each cell.
    """
    text = [
        f"<b>{token_label(symbol)}</b>" if kind == GIVEN else f"{token_label(symbol)}{_SIGNS[kind]}"
        for symbol, kind in zip(symbols, kinds, strict=True)
    ]
    cells = {"z": _grid(kinds, shape), "text": _grid(text, shape)}
    return cells if hover is None else cells | {"customdata": _grid(hover, shape)}


def board_figure(
    title: str,
    answer: Mapping[str, Any],
    solution: Mapping[str, Any],
    shape: tuple[int, int],
    *,
    box: tuple[int, int] | None,
    hover: str,
) -> "go.Figure":
    """The board of an answer (trace 0) beside that of the solution (trace 1).

    Arguments:
        answer, solution: `board_cells`; a panel's frames update them.
        box: (rows, columns) of the boxes that a board is divided into.
        hover: plotly's template of the text for a cell of the answer under the pointer.
    """
    rows, columns = shape
    offset = columns + 1
    cell = min(_CELL, _HALF / (offset + columns))
    figure = empty(title, "", "", round(130 + cell * rows))
    scale = [[(i + edge) / 4, colour] for i, colour in enumerate(KIND_COLOURS) for edge in (0, 1)]
    for cells, left, template in (
        (answer, 0, hover),
        (solution, offset, "%{y}, %{x}: %{text}"),
    ):
        figure.add_heatmap(
            **cells,
            x=[left + j for j in range(columns)],
            y=list(range(rows)),
            zmin=-0.5,
            zmax=3.5,
            colorscale=scale,
            showscale=False,
            xgap=2,
            ygap=2,
            texttemplate="%{text}",
            textfont={"color": INK, "size": min(17, round(0.42 * cell))},
            hovertemplate=f"{template}<extra></extra>",
        )
        _draw_lines(figure, left, shape, box or shape)
    _draw_legend(figure)
    for left, caption in ((0, "answer after k iterations"), (offset, "solution")):
        middle = left + (columns - 1) / 2
        figure.add_annotation(x=middle, y=-0.55, text=caption, showarrow=False, yanchor="bottom")
    figure.update_yaxes(
        range=[rows - 0.4, -1.1], tickvals=list(range(rows)), ticktext=[f"r{i + 1}" for i in range(rows)]
    )
    figure.update_xaxes(
        range=[-0.6, offset + columns - 0.4],
        tickvals=[left + j for left in (0, offset) for j in range(columns)],
        ticktext=[f"c{j + 1}" for _ in range(2) for j in range(columns)],
    )
    # without constrain="domain" equal scales would widen a range beyond the boards
    plain = {"showgrid": False, "zeroline": False, "showline": False, "constrain": "domain"}
    figure.update_layout(
        xaxis=plain, yaxis=plain | {"scaleanchor": "x", "scaleratio": 1, "constraintoward": "top"}
    )
    return figure


def _draw_legend(figure: "go.Figure") -> None:
    for name, colour, sign in zip(_NAMES, KIND_COLOURS, _SIGNS, strict=False):
        marker = {"color": colour, "symbol": "square", "size": 12}
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name=f"{name}{sign}", marker=marker, hoverinfo="skip"
        )


def _draw_lines(figure: "go.Figure", left: int, shape: tuple[int, int], box: tuple[int, int]) -> None:
    """The borders of the boxes, the board's own among them."""
    (rows, columns), (tall, wide) = shape, box
    line = {"color": _BORDER, "width": 3}
    for row in range(0, rows + 1, tall):
        figure.add_shape(x0=left - 0.5, x1=left + columns - 0.5, y0=row - 0.5, y1=row - 0.5, line=line)
    for column in range(0, columns + 1, wide):
        x = left + column - 0.5
        figure.add_shape(x0=x, x1=x, y0=-0.5, y1=rows - 0.5, line=line)


def _grid(values: Sequence[Any], shape: tuple[int, int]) -> list[list[Any]]:
    rows, columns = shape
    return [list(values[i * columns : (i + 1) * columns]) for i in range(rows)]
