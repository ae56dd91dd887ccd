"""The style of all figures: colours for colour-blind readers, and a plain layout for light and dark
pages.

The background is transparent; text and lines are in a grey that is legible on white and on black. A
report sets them to its own colours.
"""

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from torch import Tensor

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
"""From Okabe & Ito 2008, "Color Universal Design"."""
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
SCALE = "Cividis"
"""The colour scale of quantities (Nuñez, Anderton & Renslow 2018): equal steps look equal, with and
without colour blindness."""

GREY, FAINT = "#7b828c", "rgba(128,136,148,0.25)"
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
DECADES = 10
"""Ticks of a logarithmic axis at most."""
FEW_DECADES = 2.0
"""Below it powers of ten alone may leave a logarithmic axis with one tick or none."""
FEWEST_TICKS = 3
"""Ticks of a logarithmic axis at least."""
LEGEND_ENTRIES = 8
"""A legend with more of them is longer than what it explains."""


class ExampleStyle(NamedTuple):
    """How one example is drawn, in every figure of a page."""

    colour: str
    dash: str
    symbol: str


def example_style(example: int) -> ExampleStyle:
    """The colour, dash and marker of an example, by its number in the run. Examples of the same
    colour differ in dash and marker."""
    again = example // len(COLOURS)
    return ExampleStyle(
        COLOURS[example % len(COLOURS)], DASHES[again % len(DASHES)], SYMBOLS[again % len(SYMBOLS)]
    )


def label(text: object) -> str:
    """Any text, escaped so that plotly shows it literally.

    Its labels interpret some HTML, and its templates of the text under the pointer replace %{name}:
    a token or a file's name must do neither. Titles of `empty` and `colourbar` are escaped there.
    """
    return html.escape(str(text), quote=False).replace("%{", "&#37;{")


def empty(title: str, x: str, y: str, height: int = 380) -> "go.Figure":
    """An empty figure with its title and the titles of its axes, units included. Plain text."""
    import plotly.graph_objects as go

    axis = {"gridcolor": FAINT, "zerolinecolor": FAINT, "linecolor": FAINT, "ticks": "", "automargin": True}
    # at once: plotly takes ten times as long to update the layout of a figure that it has made
    layout = go.Layout(
        template="none",
        title={
            "text": label(title),
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
        margin={"l": 60, "r": 16, "t": 48, "b": 48},
        # below the axis' title: plotly makes room for as many rows as there are
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        hovermode="closest",
        hoverlabel={"namelength": -1},  # a name that is cut short may end within an escaped sign
        xaxis={"title": {"text": label(x)}, **axis},
        yaxis={"title": {"text": label(y)}, **axis},
    )
    return go.Figure(layout=layout)


def square(figure: "go.Figure", reach: float = 0.0) -> None:
    """Give a plane's axes one scale and ranges as long as each other, which hold all of its points.

    Arguments:
        reach: the ranges hold at least -reach to reach.
    """
    ends = []
    columns = zip(*((trace.x, trace.y) for trace in figure.data), strict=True)  # pyright: ignore[reportAttributeAccessIssue]
    for column in columns:
        values = [v for part in column if part is not None for v in part]
        values = [v for v in values if v is not None and math.isfinite(v)] + [-reach, reach]
        ends.append((min(values), max(values)))
    half = 0.54 * max(high - low for low, high in ends) or 1.0
    x, y = ([(low + high) / 2 - half, (low + high) / 2 + half] for low, high in ends)
    figure.update_xaxes(range=x, constrain="domain", constraintoward="left")
    figure.update_yaxes(range=y, constrain="domain", scaleanchor="x", scaleratio=1)


def over_steps(title: str, y: str, height: int = 380) -> "go.Figure":
    """An empty figure over optimiser steps, on a logarithmic axis."""
    figure = empty(title, "optimiser step", y, height)
    figure.update_xaxes(type="log", dtick=1)
    return figure


def decades(figure: "go.Figure") -> None:
    """Make the y axis logarithmic, with ticks at powers of ten: at each, or at as many as fit; also
    at multiples of these where there are few."""
    ends = [float(y) for trace in figure.data for y in (trace.y if trace.y is not None else ()) if y]  # pyright: ignore[reportAttributeAccessIssue]
    ends = [math.log10(y) for y in ends if y > 0 and math.isfinite(y)]
    span = max(ends) - min(ends) if ends else 0.0
    figure.update_yaxes(type="log", exponentformat="power", dtick=max(1, math.ceil(span / DECADES)))
    if ends and span < FEW_DECADES:
        figure.update_yaxes(**_ticks_of_few_decades(min(ends), max(ends)))


def step_line(
    figure: "go.Figure",
    steps: Sequence[int],
    values: "Tensor",
    name: str,
    *,
    colour: str,
    hover: str,
    dash: str = "solid",
) -> None:
    """Add a curve to a figure over steps. Step 0, which a logarithmic axis doesn't have, is drawn
    at 1.

    Arguments:
        values: (step,); NaN leaves a gap.
        name: plain text.
        hover: plotly's template of the text for the point under the pointer.
    """
    figure.add_scatter(
        x=[max(step, 1) for step in steps],
        y=[None if value != value else value for value in values.tolist()],
        mode="lines",
        name=label(name),
        line={"color": colour, "width": 2, "dash": dash},
        hovertemplate=f"{label(name)}, step %{{x}}: {hover}<extra></extra>",
    )


def colourbar(title: str, **more: Any) -> dict[str, Any]:
    """A thin colour bar with its title, plain text."""
    return {
        "title": {"text": label(title), "side": "right"},
        "thickness": 12,
        "outlinewidth": 0,
        "ticks": "",
        **more,
    }


def ticks_125(low: float, high: float) -> dict[str, Any]:
    """Ticks of a logarithmic axis at 1, 2 and 5 times the powers of ten, from 10^low to 10^high."""
    return _ticks(_multiples(low, high, (1, 2, 5)))


def _ticks_of_few_decades(low: float, high: float) -> dict[str, Any]:
    """The range of a logarithmic axis that holds 10^low to 10^high, and FEWEST_TICKS ticks in it or
    more: at 1, 2 and 5 times the powers of ten, else at all multiples of them, else evenly."""
    pad = max(0.05 * (high - low), 0.02)
    low, high = low - pad, high + pad
    several = (_multiples(low, high, of) for of in ((1, 2, 5), range(1, 10)))
    values = next((values for values in several if len(values) >= FEWEST_TICKS), None)
    return {"range": [low, high], **_ticks(values or _even_values(10**low, 10**high))}


def _multiples(low: float, high: float, of: Sequence[int]) -> list[float]:
    """These multiples of the powers of ten from 10^low to 10^high."""
    values = [n * 10.0**k for k in range(math.floor(low), math.ceil(high) + 1) for n in of]
    return [value for value in values if low <= math.log10(value) <= high]


def _even_values(low: float, high: float) -> list[float]:
    """At least FEWEST_TICKS round numbers between two, equally far apart."""
    gap = (high - low) / FEWEST_TICKS
    unit = 10.0 ** math.floor(math.log10(gap))
    gap = unit * max(n for n in (1, 2, 5) if n * unit <= gap)
    return [n * gap for n in range(math.ceil(low / gap), math.floor(high / gap) + 1)]


def _ticks(values: Sequence[float]) -> dict[str, Any]:
    return {"tickvals": list(values), "ticktext": [f"{value:,g}" for value in values]}
