"""Bands: the interval of a curve, drawn behind it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    import plotly.graph_objects as go

BLUE_BAND = "rgba(0,114,178,0.2)"
"""Behind a blue curve."""


def add_band(
    figure: "go.Figure", xs: Sequence[int], low: Tensor, high: Tensor, colour: str = BLUE_BAND
) -> None:
    """Fill the space between two curves, such as the ends of an interval. Add it before the curve
    that it belongs to.

    Arguments:
        low, high: (x,); NaN leaves a gap.
        colour: of the space, half transparent.
    """
    for values, fill in ((high, None), (low, "tonexty")):
        figure.add_scatter(
            x=list(xs),
            y=with_gaps(values),
            mode="lines",
            line={"width": 0},
            fill=fill,
            fillcolor=colour,
            showlegend=False,
            hoverinfo="skip",
        )


def with_gaps(values: Tensor, digits: int = 4) -> list[float | None]:
    """Numbers as plotly draws them: rounded, None for NaN."""
    return [None if value != value else round(value, digits) for value in values.tolist()]
