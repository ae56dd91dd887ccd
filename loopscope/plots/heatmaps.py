"""Heat maps: of positions and iterations, of items against each other, and of tokens.

The first row is at the top, so that iterations run downwards as one reads.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .style import SCALE, colourbar, empty, label

if TYPE_CHECKING:
    import plotly.graph_objects as go

WIDEST, LONGEST = 64, 72
"""Positions and iterations up to which the tokens are written into the cells."""
NAMED = 40
"""Positions up to which each has its name under the axis."""
TITLE_STANDOFF = 10
"""Pixels between an axis' title and its labels, where an equal scale makes the plot narrower than
its room: without it plotly lets them overlap."""
WIDEST_SQUARE = 256
"""Items of a square map, at most: a page holds the numbers of every cell."""
LABEL = 12
"""Characters of a token on an axis."""
_FEW = 12
"""Rows or columns up to which each has a tick."""
_TICKS = 10
"""Ticks of iterations, at most, beside those of the rows of tokens."""


def position_heatmap(
    cells: list[list[float | None]],
    title: str,
    y: str,
    quantity: str,
    *,
    hover: str,
    height: int = 420,
    names: Sequence[str] = (),
    iterations: Sequence[int] | None = None,
    **more: Any,
) -> "go.Figure":
    """A heat map of positions (columns) and iterations (rows).

    Arguments:
        cells: (iteration, position); None for an empty cell.
        y: title of the iterations' axis.
        quantity: title of the colour bar, with its unit.
        hover: plotly's template of the text for the cell under the pointer.
        names: of the positions, such as their tokens, plain text; shown where there are few.
        iterations: of the rows; None: 0, 1, 2 ...
        more: options of plotly's heat map, such as zmin; `bar` for those of the colour bar.
    """
    figure = empty(title, "position", y, height)
    bar = colourbar(quantity, **more.pop("bar", {}))
    if iterations is not None:
        more["y"] = list(iterations)
    figure.add_heatmap(
        z=cells, colorscale=SCALE, colorbar=bar, hovertemplate=f"{hover}<extra></extra>", **more
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False)
    figure.update_xaxes(showgrid=False, zeroline=False)
    _whole_ticks(figure, rows=len(cells), columns=len(cells[0]) if cells else 0)
    if 0 < len(names) <= NAMED:
        ticks = [token_label(short(name)) for name in names]
        figure.update_xaxes(tickvals=list(range(len(names))), ticktext=ticks)
    return figure


def square_heatmap(
    title: str,
    values: Tensor | None,
    axis: str,
    quantity: str,
    *,
    labels: Sequence[Any],
    group: int = 0,
    digits: int = 4,
    **more: Any,
) -> "go.Figure":
    """A square heat map of items against the same items, such as all unrolled layers.

    Arguments:
        values: (item, item); None for an empty figure.
        axis: title of both axes.
        quantity: title of the colour bar, with its unit.
        labels: names of the items, shown under the pointer; if they are numbers, the axes show them
            too. Names are distinct. Of more than WIDEST_SQUARE without groups some are left out,
            at equal distances.
        group: where names come in groups of this many, the axes number some of the groups, each at
            its first item, as names would lie on top of each other; 0: they show some names.
        more: options of plotly's heat map, such as zmax.
    """
    step = 1 if values is None or group else -(-len(values) // WIDEST_SQUARE)
    if values is not None and step > 1:
        values, labels = values[::step, ::step], labels[::step]
        axis = f"{axis}, one in {step}"
    figure = empty(title, axis, axis, 460)
    if values is None:
        return figure
    names = [name if isinstance(name, int) else label(name) for name in labels]
    numbers = all(isinstance(name, int) for name in names)
    figure.add_heatmap(
        z=[[None if v != v else round(v, digits) for v in row] for row in values.tolist()],
        x=names,
        y=names,
        colorscale=SCALE,
        colorbar=colourbar(quantity),
        hovertemplate="%{y} and %{x}: %{z}<extra></extra>",
        **more,
    )
    if group:
        firsts = _few(range(0, len(names), group))
        ticks = {"tickvals": [names[i] for i in firsts], "ticktext": [str(i // group) for i in firsts]}
        figure.update_layout({axis: {"type": "category", **ticks} for axis in ("xaxis", "yaxis")})
    elif not numbers:
        # between the ticks: all names would be too many
        figure.update_layout({axis: {"type": "category", "nticks": _TICKS} for axis in ("xaxis", "yaxis")})
    # without constrain="domain" equal scales would widen a range beyond the data
    figure.update_yaxes(
        autorange="reversed",
        scaleanchor="x",
        scaleratio=1,
        constrain="domain",
        showgrid=False,
        title_standoff=TITLE_STANDOFF,
    )
    figure.update_xaxes(constrain="domain", constraintoward="right", showgrid=False)
    return figure


def token_heatmap(
    title: str,
    cells: Mapping[str, Any],
    iterations: Sequence[int],
    positions: int,
    *,
    hover: str,
    rows: Mapping[str, Any] | None = None,
    y: str = "iterations run (k)",
    **more: Any,
) -> "go.Figure":
    """A heat map of positions (columns) and iterations (rows), with a token in each cell.

    Arguments:
        cells: z, text and customdata, each (iteration, position); a panel's frame updates the same
            ones, of trace 0.
        hover: plotly's template of the text for the cell under the pointer.
        rows: `token_rows`, which a panel's frame updates as trace 1: the input above the cells and
            the correct answers below them.
        y: title of the iterations' axis.
        more: options of plotly's heat map, such as colorscale, zmin, zmax.
    """
    more_rows = 0 if rows is None else len(rows["text"]) // positions
    figure = empty(title, "position", y, min(800, 170 + 18 * (len(iterations) + more_rows)))
    readable = positions <= WIDEST and len(iterations) <= LONGEST
    figure.add_heatmap(
        **cells,
        y=list(iterations),
        xgap=1 if readable else 0,
        ygap=1 if readable else 0,
        texttemplate="%{text}" if readable else None,
        hovertemplate=f"{hover}<extra></extra>",
        **more,
    )
    step = iterations[1] - iterations[0] if len(iterations) > 1 else 1
    last = iterations[-1] - iterations[-2] if len(iterations) > 1 else 1
    places = [iterations[0] - step, iterations[-1] + last][:more_rows]
    figure.update_yaxes(
        range=[iterations[-1] + last * (1.5 if more_rows > 1 else 0.5),
               iterations[0] - step * (1.5 if more_rows else 0.5)],
        showgrid=False,
        zeroline=False,
    )  # fmt: skip
    figure.update_xaxes(showgrid=False, zeroline=False, range=[-0.5, positions - 0.5])
    _whole_ticks(figure, rows=len(iterations), columns=positions)
    if rows is not None:
        few = _few(iterations)
        figure.update_yaxes(
            tickvals=[*places, *few], ticktext=[*("input", "correct")[:more_rows], *map(str, few)]
        )
        figure.add_scatter(
            **rows,
            x=[p for _ in places for p in range(positions)],
            y=[place for place in places for _ in range(positions)],
            mode="text",
            textfont={"size": more.get("textfont", {}).get("size", 12)},
            hovertemplate="position %{x}: %{text}<extra></extra>",
            showlegend=False,
        )
    return figure


def token_rows(inputs: Sequence[str], targets: Sequence[str] | None = None) -> dict[str, Any]:
    """The rows of tokens above and below a `token_heatmap`, for one example.

    Arguments:
        inputs: the tokens that the model reads, by position; plain text.
        targets: the correct answers; "" where there is none. None: no row.
    """
    return {"text": [token_label(token) if token else "" for token in [*inputs, *(targets or ())]]}


def _few(iterations: Sequence[int]) -> list[int]:
    """About _TICKS of the iterations: every one, second, fifth, tenth ..."""
    strides = (n * 10**power for power in itertools.count() for n in (1, 2, 5))
    stride = next(n for n in strides if n * _TICKS >= len(iterations))
    return list(iterations[::stride])


def short(token: str) -> str:
    """A token for the label of an axis: its beginning, if it is long."""
    return token if len(token) <= LABEL else f"{token[: LABEL - 1]}…"


def token_label(symbol: str) -> str:
    """A token as a label: literal text, and visible also if it is a blank. Spaces at its ends are
    written as ␣, since a figure would drop them."""
    if not symbol.strip():
        return label(repr(symbol))
    before, after = (len(symbol) - len(symbol.lstrip(" ")), len(symbol) - len(symbol.rstrip(" ")))
    return label(f"{'␣' * before}{symbol.strip(' ')}{'␣' * after}")


def _whole_ticks(figure: "go.Figure", *, rows: int, columns: int) -> None:
    """A tick for each of a few rows or columns; plotly would put some between the whole numbers."""
    for axis, count in (("yaxis", rows), ("xaxis", columns)):
        if count <= _FEW:
            figure.update_layout({axis: {"dtick": 1}})
