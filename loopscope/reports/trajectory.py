"""The section on the trajectory: the states in the plane of their first two principal components,
as an animation over the iterations."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from ..common.text import listed, percent, plural
from ..plots import style
from ..plots.panels import Control, Frame, Panel
from ..runs.run import Run
from .section import Section
from .state_plane import (
    EXAMPLES,
    REST,
    Path,
    StatePlane,
    last_positions,
    single_examples,
    state_plane,
)
from .thinned import thinned

if TYPE_CHECKING:
    import plotly.graph_objects as go

ENDS = 300
"""Final states drawn behind the paths."""
COVERED = 0.005
"""Dots nearer to each other than this part of the figure lie on one another."""
TAIL = 6
"""Iterations in the tail of a moving state."""
_REST_TEXT = f"{100 * REST:.0f} %"
_KINDS = {
    "circle-open": "circle",
    "square-open": "square",
    "diamond-open": "diamond",
    "triangle-up-open": "triangle",
}
"""Markers of the final states, by correct answer, and what they are called."""


def section(run: Run) -> Section | None:
    """The animation; None unless each position has a state vector that moves."""
    if run.states.axes[-3:] != ("batch", "position", "width") or len(run.states.iterations) < 3:
        return None
    plane = state_plane(run)
    if plane is None:
        return None
    together = f"last position of {plural(len(last_positions(plane)), 'example')}"
    panels = [
        _panel(
            plane,
            {together: last_positions(plane)},
            f"States after k iterations: {together}",
            _observation(plane),
        )
    ]
    if singles := single_examples(plane):
        title = "States after k iterations: the positions of one example"
        panels.append(_panel(plane, singles, title, _single_observation(plane, singles)))
    data = {"explained_variance_ratio": plane.shares, "iterations": plane.iterations}
    return Section("trajectory", "Trajectory", 20, panels, data=data)


def _panel(plane: StatePlane, views: dict[str, list[Path]], title: str, observation: str) -> Panel:
    """An animation, with a menu of views if there are several."""
    figure = style.empty(title, _axis(plane, 0), _axis(plane, 1), 560)
    ends = _draw_final(figure, plane)
    paths = [path for view in views.values() for path in view]
    places = thinned(len(plane.iterations))
    steps = [f"after {plural(plane.iterations[i], 'iteration')}" for i in places]
    frames = [
        Frame(f"{name}, {step}" if len(views) > 1 else step, _frame(plane, view, i, ends))
        for name, view in views.items()
        for step, i in zip(steps, places, strict=True)
    ]
    _draw_moving(figure, plane, frames[len(places) - 1].update, ends, paths)
    drawn = [_points(plane, path) for path in paths]
    span = np.concatenate([*drawn, plane.states[-1, plane.drawn]])
    for axis, low, high in zip(("xaxis", "yaxis"), span.min(0), span.max(0), strict=True):
        pad = 0.1 * (high - low) or 1  # a star at the edge is drawn whole
        figure.layout[axis].range = [float(low - pad), float(high + pad)]
    controls = (Control("Example", list(views)), Control("Iterations run (k)", steps, "slide"))
    return Panel(
        title,
        figure,
        observation,
        _reading(plane, len(views) > 1),
        _changes(frames),
        control="play",
        first=len(places) - 1,
        controls=controls if len(views) > 1 else (),
    )


def _changes(frames: list[Frame]) -> list[Frame]:
    """The same frames without what is equal in all of them, which a page needn't draw again."""
    first = frames[0].update
    moving = {
        trace: {key for key, value in part.items() if any(f.update[trace][key] != value for f in frames)}
        for trace, part in first.items()
    }
    return [
        Frame(
            f.label,
            {t: {key: f.update[t][key] for key in sorted(keys)} for t, keys in moving.items() if keys},
        )
        for f in frames
    ]


def _axis(plane: StatePlane, i: int) -> str:
    return f"PC {i + 1} ({percent(plane.shares[i])} of the variance)"


def _answer_kinds(plane: StatePlane) -> list[str]:
    """The correct answers, if there are few enough to tell them apart by markers."""
    if plane.answers is None:
        return []
    kinds = sorted({plane.answers[b][p] for b, p in np.argwhere(plane.drawn).tolist()})
    return kinds if len(kinds) <= len(_KINDS) else []


def _draw_final(figure: "go.Figure", plane: StatePlane) -> int:
    """The final states behind the paths, with a marker for each correct answer; returns the number
    of traces."""
    places = np.argwhere(plane.drawn)
    pick = places[np.random.default_rng(0).permutation(len(places))[:ENDS]].tolist()
    answers, kinds = plane.answers, _answer_kinds(plane) or [""]
    for kind, symbol in zip(kinds, _KINDS, strict=False):
        group = [(b, p) for b, p in pick if answers is None or kind in ("", answers[b][p])]
        points = np.array([plane.states[-1, b, p] for b, p in group]).reshape(-1, 2)
        figure.add_scatter(
            **_coordinates(points),
            mode="markers",
            marker={"color": style.GREY, "size": 6, "opacity": 0.5, "symbol": symbol},
            hoverinfo="skip",
            showlegend=False,
        )
    return len(kinds)


def _frame(plane: StatePlane, view: list[Path], i: int, ends: int) -> dict[int, dict[str, Any]]:
    """The moving parts after i states, by trace: the tails of each example, the starts, the ends
    and the dots of each example. In the last frame a tail is the whole path."""
    begin = max(0, i - TAIL) if i < len(plane.states) - 1 else 0
    gap = np.full((1, 2), np.nan)
    tails, dots = [], []
    for slot in range(EXAMPLES):
        example = _example(plane, slot)
        paths = [path for path in view if path.example == example]
        lines = [part for path in paths for part in (_points(plane, path)[begin : i + 1], gap)]
        tails.append(_coordinates(np.concatenate(lines) if lines else gap))
        dots.append(
            _coordinates(np.array([_points(plane, path)[i] for path in paths]).reshape(-1, 2))
            | {
                "text": [path.caption for path in paths],
                "customdata": [plane.names[path.example][path.position] for path in paths],
            }
        )
    resting = [path for path in view if plane.resting[path.example, path.position]]
    moving = [path for path in view if path not in resting]
    marks = [
        _coordinates(np.array([_points(plane, path)[at] for path in paths]).reshape(-1, 2))
        for paths, at in ((view, 0), (resting, -1), (moving, -1))
    ]
    return dict(enumerate([*tails, *marks, *dots], ends))


def _example(plane: StatePlane, slot: int) -> int | None:
    """The example that has a slot's traces."""
    rows = list(plane.positions)
    return rows[slot] if slot < len(rows) else None


def _points(plane: StatePlane, path: Path) -> Float[Array, "state 2"]:
    return plane.states[:, path.example, path.position]


def _draw_moving(figure: "go.Figure", plane: StatePlane, update: Any, ends: int, paths: list[Path]) -> None:
    """The moving parts as one frame has them; the legend has the ends of all views' paths."""
    resting = {bool(plane.resting[path.example, path.position]) for path in paths}
    looks = [style.example_style(_example(plane, slot) or 0) for slot in range(EXAMPLES)]
    for slot, look in enumerate(looks):
        line = {"color": look.colour, "width": 1.6, "dash": look.dash}
        figure.add_scatter(
            **update[ends + slot], mode="lines", line=line, hoverinfo="skip", opacity=0.55, showlegend=False
        )
    at_rest, elsewhere = ends + EXAMPLES + 1, ends + EXAMPLES + 2
    for trace, name, symbol, size, occurs in (
        (ends + EXAMPLES, "start", "circle-open", 16, True),
        (at_rest, f"end, last step < {_REST_TEXT}", "star-open", 20, True in resting),
        (elsewhere, f"end, last step ≥ {_REST_TEXT}", "square-open", 17, False in resting),
    ):
        figure.add_scatter(
            **update[trace],
            mode="markers",
            name=name,
            marker={"size": size, "color": style.GREY, "symbol": symbol, "line": {"width": 1.5}},
            hoverinfo="skip",
            showlegend=occurs,
        )
    for slot, look in enumerate(looks):
        dots = update[ends + EXAMPLES + 3 + slot]
        figure.add_scatter(
            **dots,
            mode="markers+text",
            textposition="top center",
            textfont={"size": 10},
            name=f"example {_example(plane, slot)}",
            marker={"size": 10, "color": look.colour, "symbol": look.symbol},
            hovertemplate="%{customdata}<extra></extra>",
            showlegend=bool(dots["x"]),
        )


def _reading(plane: StatePlane, several: bool) -> str:
    markers = ", ".join(
        f"{shape}: answer {kind}" for kind, shape in zip(_answer_kinds(plane), _KINDS.values(), strict=False)
    )
    menu = " Numbers are positions. Choose another example above." if several else ""
    start = (
        "before the loop" if plane.iterations[0] == 0 else f"after {plural(plane.iterations[0], 'iteration')}"
    )
    return (
        "PC: principal component. Each dot with its tail is the state at one position of one example; its "
        "colour is the example. "
        f"Rings: states {start}. Stars: ends of the run whose last step is shorter than {_REST_TEXT} of the "
        "largest distance from the end; squares: other ends. Grey: final states of all examples"
        f"{f' ({markers})' if markers else ''}.{menu} Play or move the slider to step through the iterations."
    )


def _observation(plane: StatePlane) -> str:
    """How much the plane holds, and how many states hardly move any more."""
    resting, total = int(plane.resting[plane.drawn].sum()), int(plane.drawn.sum())
    examples = plural(int(plane.drawn.any(1).sum()), "example")
    return (
        f"The two principal components hold {percent(sum(plane.shares))} of the variance of the states "
        f"over k = {plane.iterations[0]} to {plane.iterations[-1]}.{_covered(plane)} The last step is "
        f"shorter than {_REST_TEXT} of the largest distance from the end for {resting} of "
        f"{plural(total, 'state')} of {examples}."
    )


def _covered(plane: StatePlane) -> str:
    """Which examples' dots lie under another's at the end, as a sentence; empty for none."""
    paths = last_positions(plane)
    ends = np.array([_points(plane, path)[-1] for path in paths])
    span = np.ptp(plane.states[:, plane.drawn].reshape(-1, 2), axis=0)
    left, groups = list(range(len(paths))), []
    while left:
        near = [i for i in left if (np.abs(ends[i] - ends[left[0]]) <= COVERED * span).all()]
        left = [i for i in left if i not in near]
        if len(near) > 1:
            groups.append(listed([str(paths[i].example) for i in near]))
    if not groups:
        return ""
    return f" At the end the dots of examples {'; and of '.join(groups)} lie on one another."


def _single_observation(plane: StatePlane, views: dict[str, list[Path]]) -> str:
    parts = []
    for view in views.values():
        resting = sum(bool(plane.resting[path.example, path.position]) for path in view)
        parts.append(f"{resting} of {len(view)} in example {view[0].example}")
    return (
        f"Positions whose last step is shorter than {_REST_TEXT} of their largest distance from their end: "
        f"{', '.join(parts)}."
    )


def _coordinates(points: Float[Array, "point 2"]) -> dict[str, list[float | None]]:
    return {"x": _short(points[:, 0]), "y": _short(points[:, 1])}


def _short(values: Array) -> list[float | None]:
    return [None if v != v else float(f"{v:.4g}") for v in values.tolist()]
