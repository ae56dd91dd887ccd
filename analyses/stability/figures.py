"""Figures of stability: the panels and the headline that a report shows."""

import math
from typing import Any

from loopscope.common.text import number
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .measure import Stability, StabilityResult, _mean


def headline(result: StabilityResult) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    if result.verdict is Stability.diverging:  # a radius far out says nothing
        return "diverges", result.verdict.sentence
    return number(_mean(result.radius)), f"spectral radius. {result.verdict.sentence}"


def draw(result: StabilityResult) -> Any:
    """The leading eigenvalues in the unit disc."""
    figure = style.empty("Leading eigenvalues of one iteration", "real part", "imaginary part", 460)
    angles = [2 * math.pi * i / 120 for i in range(121)]
    line = {"color": style.GREY, "width": 1}
    figure.add_scatter(
        x=[math.cos(a) for a in angles],
        y=[math.sin(a) for a in angles],
        mode="lines",
        line=line,
        name="modulus 1",
        hoverinfo="skip",
    )
    for row, values in enumerate(result.eigenvalues):
        finite = [complex(v) for v in values.tolist() if v == v]
        figure.add_scatter(
            x=[v.real for v in finite],
            y=[v.imag for v in finite],
            mode="markers",
            marker={"size": 9, "color": style.COLOURS[row % len(style.COLOURS)]},
            text=[f"modulus {number(abs(v), 4)}" for v in finite],
            hovertemplate="%{x:.4f} + %{y:.4f}i, %{text}<extra></extra>",
            name=f"example {row}",
        )
    figure.update_yaxes(scaleanchor="x", scaleratio=1)
    return figure


def panels(result: StabilityResult) -> list[Panel]:
    """The finding as a report shows it."""
    return [
        Panel(
            "Eigenvalues in the unit disc",
            draw(result),
            f"{result.verdict.sentence} {result.agreement.sentence}",
            "A difference along an eigenvector shrinks by its modulus per iteration and turns by its angle; "
            "inside the circle it "
            "dies out, outside it grows.",
        )
    ]
