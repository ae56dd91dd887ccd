"""What all figures share: colours that colour-blind readers can tell apart, a plain look for light
and dark, panels.

A figure stands on a transparent ground, with text and lines in a grey that reads on white and on
black; a report sets them to its own colours.
"""

import html
from collections.abc import Sequence
from typing import Any

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
"""Of Okabe & Ito 2008, "Color Universal Design"."""
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
SCALE = "Cividis"
"""For quantities: Nuñez, Anderton & Renslow 2018; equal steps look equal, with and without colour
blindness."""

GREY, FAINT = "#7b828c", "rgba(128,136,148,0.25)"


def label(text: object) -> str:
    """Any text as plotly writes it literally: its labels know a little HTML, which a token or a
    file's name must not use."""
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


def colourbar(title: str, **more: Any) -> dict[str, Any]:
    """A slim colour bar with its quantity."""
    return {
        "title": {"text": title, "side": "right"},
        "thickness": 12,
        "outlinewidth": 0,
        "ticks": "",
        **more,
    }
