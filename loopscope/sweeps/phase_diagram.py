"""The phase diagram of a sweep: the median of each condition over two axes of the grid."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..plots.panels import Frame, Panel
from ..plots.style import GREY, SCALE, colourbar, empty, label, ticks_125
from .captions import Captions
from .conditions import Condition, condition_axes, conditions
from .grid import Axis, format_value
from .sweep_result import SweepResult

BACKGROUND = "rgba(128,136,148,0.12)"
"""Of cells without a colour."""

Sheet = list[list[Condition | None]]
"""The conditions by row and column."""


def phase_diagram(sweep: SweepResult, captions: Captions) -> Panel | None:
    """Two axes of the grid as a map, with a menu for the others; None if only the seed varies."""
    axes = condition_axes(sweep)
    drawn_axes = sorted(axes, key=lambda axis: -len(axis.values))[:2]
    if not drawn_axes:
        return None
    x, y = drawn_axes[0], drawn_axes[1] if len(drawn_axes) > 1 else None
    menu_axes = [axis for axis in axes if axis not in drawn_axes]
    points = conditions(sweep)
    sheets = _sheets(points, axes, x, y)

    medians = [c.median.value for c in points if c.median is not None and c.median.value is not None]
    log_scale = sweep.has_histories and min(medians, default=0) > 0 and max(medians) / min(medians) > 20
    low, high = (_scaled(f(medians), log_scale) if medians else 0.0 for f in (min, max))
    updates = [_update(sheet, log_scale, low, high, captions=captions) for _, sheet in sheets]
    figure = empty("", x.title, y.title if y else "", 150 + 74 * len(sheets[0][1]))
    bar = colourbar(captions.quantity, **(_log_ticks(low, high) if log_scale else {}))
    _draw(figure, updates[0], x, y, zmin=low, zmax=high if high > low else low + 1, colorbar=bar)
    frames = [Frame(name, dict(enumerate(update))) for (name, _), update in zip(sheets, updates, strict=True)]
    return Panel(
        "Phase diagram",
        figure,
        captions.phases(points),
        captions.phase_reading,
        frames if len(frames) > 1 else (),
        menu_label=", ".join(axis.short_name for axis in menu_axes),
    )


def _sheets(
    points: Sequence[Condition], axes: Sequence[Axis], x: Axis, y: Axis | None
) -> list[tuple[str, Sheet]]:
    """For each combination of values of the other axes: its name, and its conditions."""
    rest = [axis for axis in axes if axis not in (x, y)]
    sheets = []
    for indices in itertools.product(*(range(len(axis.values)) for axis in rest)):
        sheet: Sheet = [[None] * len(x.values) for _ in range(len(y.values) if y else 1)]
        for point in points:
            if all(point.coordinates[axes.index(a)] == i for a, i in zip(rest, indices, strict=True)):
                row = point.coordinates[axes.index(y)] if y else 0
                sheet[row][point.coordinates[axes.index(x)]] = point
        name = ", ".join(
            f"{a.short_name} {format_value(a.values[i])}" for a, i in zip(rest, indices, strict=True)
        )
        sheets.append((name, sheet))
    return sheets


def _draw(figure: Any, update: Sequence[Mapping[str, Any]], x: Axis, y: Axis | None, **colours: Any) -> None:
    """The background, the colours, and the text in the cells."""
    names = {
        "x": [label(format_value(v)) for v in x.values],
        "y": [label(format_value(v)) for v in y.values] if y else [""],
    }
    gaps = {"hoverinfo": "skip", "xgap": 3, "ygap": 3}
    background, medians, texts = update
    scale = [[0, BACKGROUND], [1, BACKGROUND]]
    figure.add_heatmap(**names, z=background["z"], colorscale=scale, showscale=False, **gaps)
    figure.add_heatmap(**names, z=medians["z"], colorscale=SCALE, **gaps, **colours)
    figure.add_scatter(
        x=[name for _ in names["y"] for name in names["x"]],
        y=[name for name in names["y"] for _ in names["x"]],
        mode="text",
        showlegend=False,
        hovertemplate="%{customdata}<extra></extra>",
        **texts,
    )
    figure.data[2].textfont.size = 14 if len(x.values) <= 6 else 11
    figure.update_xaxes(type="category", showgrid=False, zeroline=False)
    figure.update_yaxes(type="category", showgrid=False, zeroline=False, showticklabels=y is not None)


def _update(
    sheet: Sheet, log_scale: bool, low: float, high: float, *, captions: Captions
) -> list[dict[str, Any]]:
    """What a choice in the menu changes: the background, the colours, and the text."""
    background = [[None if point is None else 0 for point in row] for row in sheet]
    z = [
        [
            _scaled(c.median.value, log_scale) if c and c.median and c.median.value is not None else None
            for c in row
        ]
        for row in sheet
    ]
    points = [point for row in sheet for point in row]
    shades = [v for row in z for v in row]
    # Cividis ends in yellow: dark letters on its light half, white ones on its dark half, grey
    # where there is no colour.
    bright = [None if v is None else (v - low) / ((high - low) or 1) > 0.5 for v in shades]
    return [
        {"z": background},
        {"z": z},
        {
            "text": [
                "" if c is None else f"<b>{label(captions.short(c))}</b><br>{captions.seeds(c)}"
                for c in points
            ],
            "textfont.color": [GREY if b is None else "#111418" if b else "#ffffff" for b in bright],
            "customdata": ["" if c is None else label(captions.long(c)) for c in points],
        },
    ]


def _scaled(value: float, log_scale: bool) -> float:
    return math.log10(value) if log_scale else value


def _log_ticks(low: float, high: float) -> dict[str, Any]:
    """Ticks for values that are drawn as their logarithms."""
    ticks = ticks_125(low, high)
    return ticks | {"tickvals": [math.log10(value) for value in ticks["tickvals"]]}
