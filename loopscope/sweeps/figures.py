"""The figures of a sweep's page: the phase diagram, every seed with its cell's median, and the
curves."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..plots.panels import Frame, Panel
from ..plots.style import BLUE, COLOURS, GREY, RED, SCALE, colourbar, empty, label
from ..training import step_log
from ..training.trainer import LOG
from .captions import Words
from .conditions import Cell, cell_axes, cells, is_dated
from .grid import Axis, spelled
from .outcome import Outcome, history
from .sweep import Sweep

GROUND = "rgba(128,136,148,0.12)"
"""Under cells without a colour."""
POINTS = 80
"""Points of a curve."""


def phase_diagram(sweep: Sweep, words: Words) -> Panel | None:
    """Two axes of the grid as a map, with a menu for the others; None where there is nothing to
    vary but the seed."""
    every = cell_axes(sweep)
    axes = sorted(every, key=lambda axis: -len(axis.values))[:2]
    if not axes:
        return None
    result = cells(sweep)
    x, y = axes[0], axes[1] if len(axes) > 1 else None
    rest = [axis for axis in every if axis not in axes]
    sheets = _sheets(result, every, x, y)

    medians = [c.middle.median for c in result if c.middle is not None and c.middle.median is not None]
    powers = is_dated(sweep) and min(medians, default=0) > 0 and max(medians) / min(medians) > 20
    low, high = (_power(f(medians), powers) if medians else 0.0 for f in (min, max))
    drawn = [_sheet(sheet, powers, low, high, words=words) for _, sheet in sheets]
    figure = empty("", x.title, y.title if y else "", 150 + 74 * len(sheets[0][1]))
    bar = colourbar(words.quantity, **(_logarithms(_ticks(low, high)) if powers else {}))
    _draw_sheet(figure, drawn[0], x, y, zmin=low, zmax=high if high > low else low + 1, colorbar=bar)
    frames = [Frame(name, dict(enumerate(sheet))) for (name, _), sheet in zip(sheets, drawn, strict=True)]
    return Panel(
        "Phase diagram",
        figure,
        words.seen(result),
        words.reading,
        frames if len(frames) > 1 else (),
        asks=", ".join(axis.short for axis in rest),
    )


def _sheets(
    result: Sequence[Cell], axes: Sequence[Axis], x: Axis, y: Axis | None
) -> list[tuple[str, list[list[Cell | None]]]]:
    """For each choice of values on the other axes its name and its cells, by row and column."""
    rest = [axis for axis in axes if axis not in (x, y)]
    sheets = []
    for choice in itertools.product(*(range(len(axis.values)) for axis in rest)):
        sheet: list[list[Cell | None]] = [[None] * len(x.values) for _ in range(len(y.values) if y else 1)]
        for cell in result:
            if all(cell.coordinates[axes.index(a)] == i for a, i in zip(rest, choice, strict=True)):
                row = cell.coordinates[axes.index(y)] if y else 0
                sheet[row][cell.coordinates[axes.index(x)]] = cell
        name = ", ".join(f"{a.short} {spelled(a.values[i])}" for a, i in zip(rest, choice, strict=True))
        sheets.append((name, sheet))
    return sheets


def _draw_sheet(
    figure: Any, drawn: Sequence[Mapping[str, Any]], x: Axis, y: Axis | None, **colours: Any
) -> None:
    """The ground, the colours, and the words in the cells."""
    names = {
        "x": [label(spelled(v)) for v in x.values],
        "y": [label(spelled(v)) for v in y.values] if y else [""],
    }
    gaps = {"hoverinfo": "skip", "xgap": 3, "ygap": 3}
    ground, medians, texts = drawn
    figure.add_heatmap(**names, z=ground["z"], colorscale=[[0, GROUND], [1, GROUND]], showscale=False, **gaps)
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


def every_seed(sweep: Sweep, words: Words) -> Panel:
    """A row for each cell: its seeds, those that are only known to be later, the median and its
    interval."""
    result = cells(sweep)
    rows = [label(cell.label) for cell in result]
    everything = [value for cell in result for value in [*cell.values, *cell.bounds]]
    least, most = min(everything, default=0.0), max(everything, default=1.0)
    powers = is_dated(sweep) and least > 0 and most / least > 20
    edge = most * 1.25 if powers else most + 0.06 * ((most - least) or 1.0)
    figure = empty("", words.quantity, "", 130 + 34 * max(2, len(result)))

    for number, (cell, row) in enumerate(
        (c, r) for c, r in zip(result, rows, strict=True) if _has_interval(c)
    ):
        _draw_interval(figure, cell, row, edge=edge, words=words, showlegend=not number)
    middles = [[] if c.middle is None or c.middle.median is None else [c.middle.median] for c in result]
    seeds, later = [cell.values for cell in result], [cell.bounds for cell in result]
    line = {"symbol": "line-ns", "size": 22, "color": BLUE, "line": {"width": 4, "color": BLUE}}
    dot = {"size": 8, "color": GREY, "line": {"width": 1, "color": "#ffffff"}}
    triangle = {"symbol": "triangle-right", "size": 11, "color": RED}
    _draw_points(figure, "median", rows, middles, marker=line)
    _draw_points(figure, "one seed", rows, seeds, marker=dot)
    _draw_points(figure, "one seed, later than this", rows, later, marker=triangle)
    figure.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=rows[::-1],
        showgrid=False,
        range=[-0.6, len(rows) - 0.4],
    )
    if powers:
        figure.update_xaxes(type="log", **_ticks(math.log10(least / 2), math.log10(edge)))
    return Panel(
        "Every seed, and the median of each cell", figure, words.spread(result), words.spread_reading
    )


def _has_interval(cell: Cell) -> bool:
    return cell.middle is not None and cell.middle.seen + cell.middle.censored >= 2


def _draw_interval(figure: Any, cell: Cell, row: str, *, edge: float, words: Words, showlegend: bool) -> None:
    """The interval of a cell's median; up to the edge where it has no end."""
    m = cell.middle
    assert m is not None
    figure.add_scatter(
        x=[edge if end is None else end for end in (m.low, m.high)],
        y=[row, row],
        mode="lines+markers",
        line={"color": BLUE, "width": 7},
        opacity=0.4,
        marker={"symbol": ["circle", "triangle-right"], "size": [1, 1 if m.high else 15], "color": BLUE},
        name="95 % interval of the median",
        legendgroup="interval",
        showlegend=showlegend,
        hovertemplate=f"{row}: {label(words.interval(m))}<extra></extra>",
    )


def _draw_points(
    figure: Any,
    name: str,
    rows: Sequence[str],
    values: Sequence[Sequence[float]],
    *,
    marker: Mapping[str, Any],
) -> None:
    """One trace; the values are by row."""
    placed = [(value, row) for row, several in zip(rows, values, strict=True) for value in several]
    if placed:
        figure.add_scatter(
            x=[value for value, _ in placed],
            y=[row for _, row in placed],
            mode="markers",
            name=name,
            marker=marker,
            hovertemplate=f"%{{y}}: {name} %{{x:.4g}}<extra></extra>",
        )


def curves(sweep: Sweep, words: Words) -> Panel:
    """The score while it was learned, a cell at a time."""
    result = cells(sweep)
    kept = [
        [_curves(sweep, trial.name, o) for trial, o in zip(c.trials, c.outcomes, strict=True)] for c in result
    ]
    kinds = sorted(
        {kind for cell in kept for curve in cell for kind in curve}, key=lambda kind: (kind != "train", kind)
    )
    seeds = max(len(cell.trials) for cell in result)
    figure = empty("", "optimiser step", words.score, 420)
    dashes = dict(zip(kinds, ("dot", "solid", "dash", "dashdot"), strict=False)) if len(kinds) > 1 else {}
    order = [(seed, kind) for seed in range(seeds) for kind in kinds]
    for seed, kind in order:
        x, y = kept[0][seed].get(kind, ([], [])) if seed < len(kept[0]) else ([], [])
        named = f"seed {result[0].trials[min(seed, len(result[0].trials) - 1)].recipe.seed}"
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            name=named + (f", {kind}" if len(kinds) > 1 else ""),
            line={"color": COLOURS[seed % len(COLOURS)], "width": 2, "dash": dashes.get(kind, "solid")},
            showlegend=len(order) <= 10,
            hovertemplate=f"{named}, {kind}, step %{{x}}: %{{y:.3f}}<extra></extra>",
        )
    if is_dated(sweep):
        figure.update_xaxes(type="log", **_ticks(0, 8))
    frames = []
    for cell, curve in zip(result, kept, strict=True):
        update = {}
        for i, (seed, kind) in enumerate(order):
            x, y = curve[seed].get(kind, ([], [])) if seed < len(curve) else ([], [])
            update[i] = {"x": x, "y": y}
        frames.append(Frame(cell.label, update))
    return Panel(
        "While it was learned",
        figure,
        words.curves(len(result)),
        words.curves_reading(kinds),
        frames if len(frames) > 1 else (),
        asks="Cell",
    )


def _sheet(
    sheet: Sequence[Sequence[Cell | None]], powers: bool, low: float, high: float, *, words: Words
) -> list[dict[str, Any]]:
    """What a choice of the other axes changes: the ground, the colours, and the words."""
    ground = [[None if cell is None else 0 for cell in row] for row in sheet]
    z = [
        [
            _power(c.middle.median, powers) if c and c.middle and c.middle.median is not None else None
            for c in row
        ]
        for row in sheet
    ]
    flat = [cell for row in sheet for cell in row]
    shades = [v for row in z for v in row]
    # Cividis ends in yellow: dark letters on its light half, white ones on its dark half, grey
    # where there is no colour.
    bright = [None if v is None else (v - low) / ((high - low) or 1) > 0.5 for v in shades]
    return [
        {"z": ground},
        {"z": z},
        {
            "text": [
                "" if c is None else f"<b>{label(words.short(c))}</b><br>{words.below(c)}" for c in flat
            ],
            "textfont.color": [GREY if b is None else "#111418" if b else "#ffffff" for b in bright],
            "customdata": ["" if c is None else label(words.long(c)) for c in flat],
        },
    ]


def _curves(sweep: Sweep, name: str, result: Outcome) -> dict[str, tuple[list[float], list[float]]]:
    """By set of examples: steps and scores."""
    folder = sweep.folder / name
    kept = history(folder) if result.phase is not None else None
    if kept is not None:
        steps = [float(step) for step in kept.steps]
        return {which: _thinned(steps, kept.accuracy(which)[:, -1].tolist()) for which in kept.sets}
    lines = step_log.read(folder / LOG)
    return (
        {"its own examples": _means([x["step"] for x in lines], [x["accuracy"] for x in lines])}
        if lines
        else {}
    )


def _means(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    """Means over equal stretches: a step's few examples make a jagged line."""
    width = math.ceil(len(x) / POINTS)
    spans = [slice(i, i + width) for i in range(0, len(x), width)]
    return [sum(x[s]) / len(x[s]) for s in spans], [sum(y[s]) / len(y[s]) for s in spans]


def _thinned(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    every = math.ceil(len(x) / (4 * POINTS))
    return x[::every], y[::every]


def _power(value: float, powers: bool) -> float:
    return math.log10(value) if powers else value


def _ticks(low: float, high: float) -> dict[str, Any]:
    """Marks at 1, 2 and 5 times the powers of ten between two powers."""
    marks = [n * 10.0**k for k in range(math.floor(low), math.ceil(high) + 1) for n in (1, 2, 5)]
    marks = [mark for mark in marks if low <= math.log10(mark) <= high]
    return {"tickvals": marks, "ticktext": [f"{mark:,g}" for mark in marks]}


def _logarithms(ticks: dict[str, Any]) -> dict[str, Any]:
    return ticks | {"tickvals": [math.log10(mark) for mark in ticks["tickvals"]]}
