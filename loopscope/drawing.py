"""What all figures share: colours that colour-blind readers can tell apart, a plain look for light and dark, panels.

A figure stands on a transparent ground, with text and lines in a grey that reads on white and on black; a report sets
them to its own colours.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
"""Of Okabe & Ito 2008, "Color Universal Design"."""
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
SCALE = "Cividis"
"""For quantities: Nuñez, Anderton & Renslow 2018; equal steps look equal, with and without colour blindness."""

GREY, FAINT = "#7b828c", "rgba(128,136,148,0.25)"


@dataclass(frozen=True)
class Frame:
    """One of the things that a panel's control can show."""

    label: str
    """What the control calls it; plain text."""
    update: Mapping[int, Mapping[str, Any]]
    """By number of the trace: its attributes that change."""


@dataclass(frozen=True)
class Panel:
    """A figure with the words that belong to it. What a report shows; an analysis' `panels(finding)` gives a list of them."""

    title: str
    """What the figure shows; plain text."""
    figure: Any
    """plotly.graph_objects.Figure"""
    seen: str
    """One sentence that says what is seen, made from the numbers."""
    reading: str
    """One sentence that says how to read it."""
    frames: Sequence[Frame] = field(default=())
    """What its control chooses from, if it has one; the figure shows one of them at first."""
    control: Literal["choose", "play"] = "choose"
    """A menu, or a button and a slider that go through the frames in order."""
    first: int = 0
    """The frame that the figure shows at first."""
    asks: str = "Example"
    """What the menu chooses, in a word."""


def label(text: object) -> str:
    """Any text as plotly writes it literally: its labels know a little HTML, which a token or a file's name must not use."""
    return html.escape(str(text), quote=False)


def empty(title: str, x: str, y: str, height: int = 380) -> Any:
    """A figure with its title and the names of its axes, units included, in the common look."""
    import plotly.graph_objects as go

    axis = {"gridcolor": FAINT, "zerolinecolor": FAINT, "linecolor": FAINT, "ticks": "", "automargin": True}
    figure = go.Figure()
    figure.update_layout(
        template="none",
        title={
            "text": title,
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": 0.98,
            "yanchor": "top",
            "font": {"size": 15},
        },
        font={
            "family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
            "size": 13,
            "color": GREY,
        },
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        colorway=list(COLOURS),
        height=height,
        margin={"l": 60, "r": 16, "t": 76, "b": 48},
        legend={"orientation": "h", "y": 1.01, "x": 0, "yanchor": "bottom"},
        hovermode="closest",
        xaxis={"title": {"text": x}, **axis},
        yaxis={"title": {"text": y}, **axis},
    )
    return figure


def over_steps(title: str, y: str, height: int = 380) -> Any:
    """A figure over optimiser steps, on a logarithmic axis."""
    figure = empty(title, "optimiser step", y, height)
    figure.update_xaxes(type="log", dtick=1)
    return figure


def step_line(
    figure: Any, steps: Sequence[int], values: Any, name: str, *, colour: str, hover: str, dash: str = "solid"
) -> None:
    """A curve in such a figure; step 0, which a logarithmic axis doesn't have, stands at 1.

    Arguments:
        values: one for each step, a tensor; NaN leaves a gap.
        hover: plotly's template of what a point tells.
    """
    figure.add_scatter(
        x=[max(step, 1) for step in steps],
        y=[None if value != value else value for value in values.tolist()],
        mode="lines",
        name=name,
        line={"color": colour, "width": 2, "dash": dash},
        hovertemplate=f"{name}, step %{{x}}: {hover}<extra></extra>",
    )


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


def colourbar(title: str, **more: Any) -> dict[str, Any]:
    """A slim colour bar with its quantity."""
    return {
        "title": {"text": title, "side": "right"},
        "thickness": 12,
        "outlinewidth": 0,
        "ticks": "",
        **more,
    }


def number(value: float, digits: int = 3) -> str:
    """A number for a sentence: few digits, and powers of ten for what is very small or large."""
    if value != value:
        return "unknown"
    return f"{value:.{digits}g}".replace("e-0", "e-").replace("e+0", "e+")


def percent(share: float) -> str:
    """A fraction in 0..1 as a percentage. Never rounded to 0 % or 100 % unless it is exactly that."""
    if share != share:
        return "unknown"
    for digits in (0, 1, 2, 3):
        text = f"{100 * share:.{digits}f}"
        if (float(text) in (0, 100)) == (share in (0, 1)) and (
            digits > 0 or 5 <= 100 * share <= 95 or share in (0, 1)
        ):
            return f"{text} %"
    return f"{'less than 0.001' if share < 0.5 else 'more than 99.999'} %"
