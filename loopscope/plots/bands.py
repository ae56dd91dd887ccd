"""A band: the interval of a curve, drawn behind it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from torch import Tensor


def add_band(
    figure: "go.Figure", x: Sequence[float], low: "Tensor", high: "Tensor", *, colour: str, digits: int = 4
) -> None:
    """Add the interval of a curve in its colour, without an entry in the legend; nothing where it
    is unknown.

    Arguments:
        low, high: (point,), its ends; points of which one is NaN are left out.
        colour: "#rrggbb".
    """
    points = [
        (at, round(a, digits), round(b, digits))
        for at, a, b in zip(x, low.tolist(), high.tolist(), strict=True)
        if a == a and b == b
    ]
    if not points:
        return
    rgb = ",".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
    figure.add_scatter(
        x=[at for at, _, _ in points] + [at for at, _, _ in points[::-1]],
        y=[top for _, _, top in points] + [bottom for _, bottom, _ in points[::-1]],
        fill="toself",
        mode="none",
        hoverinfo="skip",
        showlegend=False,
        fillcolor=f"rgba({rgb},0.15)",
    )


def with_gaps(values: "Tensor", digits: int = 4) -> list[float | None]:
    """Numbers as plotly draws them: rounded, None for NaN."""
    return [None if value != value else round(value, digits) for value in values.tolist()]
