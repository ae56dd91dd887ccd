"""Figures of depth use: the panels and the headline that a report shows."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.text import number
from loopscope.plots import style
from loopscope.plots.panels import Panel
from loopscope.plots.style import BLUE, COLOURS, empty, label

from .integration_window import Windows
from .measure import _NAMES, DepthUse, _slope, _window

GROUPS = 3
"""Of difficulties, in a figure."""


def window_figure(seen: Windows, difficulty: Float[Tensor, " item"], unit: str) -> Any:
    """Share of the clues whose exchange turns the answer, by iteration and difficulty; dotted with
    the state alone."""
    title = "Does the answer still depend on an input?"
    figure = empty(title, "iterations run before it is exchanged", "answers that turn", 380)
    own = difficulty[seen.item]
    bounds = own.quantile(torch.linspace(0, 1, GROUPS + 1, dtype=own.dtype)).unique().tolist()
    for first, last, colour in zip(bounds, bounds[1:], COLOURS[1:], strict=False):
        here = (own >= first) & ((own < last) if last != bounds[-1] else (own <= last))
        if len(bounds) < 3 or not bool(here.any()):
            continue
        levels = sorted({f"{level:g}": level for level in own[here].tolist()}.items(), key=lambda one: one[1])
        name = levels[0][0] if len(levels) == 1 else f"{levels[0][0]} to {levels[-1][0]}"
        figure.add_scatter(
            x=list(seen.iterations), y=seen.flips[here].double().mean(0).tolist(), mode="lines+markers",
            name=f"{label(unit)} {name} ({int(here.sum())} inputs)", line={"color": colour, "width": 1.75},
            hovertemplate="exchanged after %{x}: %{y:.0%}",
        )  # fmt: skip
    for values, name, dash in (
        (seen.flips, f"all ({len(own)} inputs)", "solid"),
        (seen.state, "all, the state alone", "dot"),
    ):
        figure.add_scatter(
            x=list(seen.iterations), y=values.double().mean(0).tolist(), name=name, mode="lines+markers",
            line={"color": BLUE, "width": 3, "dash": dash}, hovertemplate="exchanged after %{x}: %{y:.0%}",
        )  # fmt: skip
    figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def headline(result: DepthUse) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    s = result.depths[0].slope
    return (
        f"{number(s.slope, 2)}",
        f"iterations more for one more of {result.unit!r}. {result.verdict.sentence}",
    )


def draw(result: DepthUse) -> Any:
    """Mean depth at each difficulty, with intervals."""
    figure = style.empty(
        "Iterations that it takes, by difficulty", style.label(result.unit), "iterations", 380
    )
    x = result.levels.tolist()
    shown = [
        depth for depth in result.depths if depth.name != "window"
    ]  # it is of an input, and has a figure of its own
    for depth, colour in zip(shown, style.COLOURS, strict=False):
        width, dash = 3 if depth.name == "settled" else 2, "dash" if depth.name == "right" else "solid"
        known = [None if v != v else round(v, 4) for v in depth.by_level.tolist()]
        figure.add_scatter(
            x=x, y=known, name=_NAMES[depth.name].lower(), mode="lines+markers",
            line={"color": colour, "width": width, "dash": dash},
            error_y={"array": [0 if v != v else v for v in depth.half.tolist()], "thickness": 1},
        )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    if len(x) <= 12 and all(level == round(level) for level in x):
        figure.update_xaxes(dtick=1)
    return figure


def panels(result: DepthUse) -> list[Panel]:
    """The finding as a report shows it."""
    s = result.depths[0].slope
    out = [
        Panel(
            "How many iterations the answer takes",
            draw(result),
            f"{result.verdict.sentence} The depth to the answer changes by {_slope(s)} iterations for one "
            f"more of {result.unit!r} (95 % interval over {s.groups} examples).",
            "Means with 95 % intervals. The answer is there from the iteration on after which the read-out "
            "doesn't change any more, right or wrong; dashed, what is right for good.",
        )
    ]
    if result.windows is not None and len(result.windows.item):
        out.append(
            Panel(
                "How long the answer depends on an input",
                window_figure(result.windows, result.difficulty, result.unit),
                _window(result),
                "Each point exchanges one input after so many iterations, and lets the loop go on to its "
                "end. Where a curve falls to 0 the answer has taken what it needs, or too few iterations "
                "are left for it to turn.",
            )
        )
    return out
