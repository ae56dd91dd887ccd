"""Figures of a sweep's page: all seeds with the median of their condition, and the learning
curves."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..plots.panels import Frame, Panel
from ..plots.style import BLUE, COLOURS, GREY, RED, empty, label, ticks_125
from ..training import step_log
from .captions import Captions
from .conditions import Condition, conditions
from .sweep_result import SweepResult
from .trial_result import TrialResult, read_history

POINTS = 80
"""Points of a curve that is averaged over steps."""

Curve = tuple[list[float], list[float]]
"""Steps and scores."""


def seed_medians(sweep: SweepResult, captions: Captions) -> Panel:
    """A row for each condition: its seeds, those that are censored, the median and its interval."""
    points = conditions(sweep)
    rows = [label(point.label) for point in points]
    values = [value for point in points for value in [*point.values, *point.bounds]]
    least, most = min(values, default=0.0), max(values, default=1.0)
    log_scale = sweep.has_histories and least > 0 and most / least > 20
    edge = most * 1.25 if log_scale else most + 0.06 * ((most - least) or 1.0)
    figure = empty("", captions.quantity, "", 130 + 34 * max(2, len(points)))

    for number, (point, row) in enumerate(
        (point, row) for point, row in zip(points, rows, strict=True) if _has_interval(point)
    ):
        _draw_interval(figure, point, row, edge=edge, captions=captions, showlegend=not number)
    medians = [[] if p.median is None or p.median.value is None else [p.median.value] for p in points]
    line = {"symbol": "line-ns", "size": 22, "color": BLUE, "line": {"width": 4, "color": BLUE}}
    dot = {"size": 8, "color": GREY, "line": {"width": 1, "color": "#ffffff"}}
    triangle = {"symbol": "triangle-right", "size": 11, "color": RED}
    _draw_points(figure, "median", rows, medians, marker=line)
    _draw_points(figure, "one seed", rows, [point.values for point in points], marker=dot)
    _draw_points(figure, "one seed, later than this", rows, [p.bounds for p in points], marker=triangle)
    figure.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=rows[::-1],
        showgrid=False,
        range=[-0.6, len(rows) - 0.4],
    )
    if log_scale:
        figure.update_xaxes(type="log", **ticks_125(math.log10(least / 2), math.log10(edge)))
    return Panel(
        "All seeds, and the median of each condition",
        figure,
        captions.spread(points),
        captions.seed_reading,
    )


def learning_curves(sweep: SweepResult, captions: Captions) -> Panel:
    """The score by optimiser step, one condition at a time."""
    points = conditions(sweep)
    curves = [
        [_curves(sweep, trial.name, result) for trial, result in zip(p.trials, p.results, strict=True)]
        for p in points
    ]
    sets = sorted(
        {name for point in curves for seed in point for name in seed},
        key=lambda name: (name != "train", name),
    )
    seeds = max(len(point.trials) for point in points)
    figure = empty("", "optimiser step", captions.score, 420)
    dashes = dict(zip(sets, ("dot", "solid", "dash", "dashdot"), strict=False)) if len(sets) > 1 else {}
    traces = [(seed, name) for seed in range(seeds) for name in sets]
    for seed, name in traces:
        x, y = _curve_of(curves[0], seed, name)
        trial = points[0].trials[min(seed, len(points[0].trials) - 1)]
        title = label(f"seed {trial.recipe.seed}")
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            name=title + (f", {label(name)}" if len(sets) > 1 else ""),
            line={"color": COLOURS[seed % len(COLOURS)], "width": 2, "dash": dashes.get(name, "solid")},
            showlegend=len(traces) <= 10,
            hovertemplate=f"{title}, {label(name)}, step %{{x}}: %{{y:.3f}}<extra></extra>",
        )
    if sweep.has_histories:
        figure.update_xaxes(type="log", **ticks_125(0, 8))
    frames = []
    for point, curve in zip(points, curves, strict=True):
        xy = [_curve_of(curve, seed, name) for seed, name in traces]
        frames.append(Frame(point.label, {i: {"x": x, "y": y} for i, (x, y) in enumerate(xy)}))
    return Panel(
        "Learning curves",
        figure,
        captions.curves(len(points)),
        captions.curves_reading(sets),
        frames if len(frames) > 1 else (),
        menu_label="Condition",
    )


def _has_interval(point: Condition) -> bool:
    return point.median is not None and point.median.observed + point.median.censored >= 2


def _draw_interval(
    figure: Any, point: Condition, row: str, *, edge: float, captions: Captions, showlegend: bool
) -> None:
    """The interval of a condition's median, up to the edge if it has no upper end."""
    m = point.median
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
        hovertemplate=f"{row}: {label(captions.interval(m))}<extra></extra>",
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
    points = [(value, row) for row, several in zip(rows, values, strict=True) for value in several]
    if points:
        figure.add_scatter(
            x=[value for value, _ in points],
            y=[row for _, row in points],
            mode="markers",
            name=name,
            marker=marker,
            hovertemplate=f"%{{y}}: {name} %{{x:.4g}}<extra></extra>",
        )


def _curve_of(curves: Sequence[Mapping[str, Curve]], seed: int, name: str) -> Curve:
    return curves[seed].get(name, ([], [])) if seed < len(curves) else ([], [])


def _curves(sweep: SweepResult, name: str, result: TrialResult) -> dict[str, Curve]:
    """By set of examples: steps and scores."""
    folder = sweep.folder / name
    history = read_history(folder) if result.phase is not None else None
    if history is not None:
        steps = [float(step) for step in history.steps]
        return {s: _thinned(steps, history.accuracy(s)[:, -1].tolist()) for s in history.sets}
    lines = step_log.read(folder / step_log.LOG)
    if not lines:
        return {}
    return {"its own examples": _means([x["step"] for x in lines], [x["accuracy"] for x in lines])}


def _means(x: list[float], y: list[float]) -> Curve:
    """Averages over equal numbers of points: the few examples of one step make a noisy curve."""
    width = math.ceil(len(x) / POINTS)
    spans = [slice(i, i + width) for i in range(0, len(x), width)]
    return [sum(x[s]) / len(x[s]) for s in spans], [sum(y[s]) / len(y[s]) for s in spans]


def _thinned(x: list[float], y: list[float]) -> Curve:
    every = math.ceil(len(x) / (4 * POINTS))
    return x[::every], y[::every]
