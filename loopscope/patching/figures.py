"""Heat maps of the effects of patches."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..plots import style

if TYPE_CHECKING:
    import plotly.graph_objects as go

SCALE = "RdBu"
"""Red below 0, white at 0, blue above: readable with colour blindness."""
ITERATIONS_RUN, ITERATION = "iterations run (k)", "iteration (t)"
"""Titles of the axis of patched states, and of that of sites inside an iteration."""


def effect_map(
    cells: Tensor,
    iterations: Sequence[int],
    columns: Sequence[Any],
    title: str,
    *,
    x: str,
    y: str,
    quantity: str,
    most: float | None = None,
) -> "go.Figure":
    """A heat map: iterations downwards, positions (or heads) to the right, 0 in white.

    Arguments:
        cells: (iteration, column); NaN leaves a gap. Without any number the figure says so.
        most: the value at which the colours saturate; None: the largest cell.
    """
    figure = style.empty(title, x, y, min(760, max(300, 170 + 18 * len(iterations))))
    most = float(cells.abs().nan_to_num().max()) if most is None else most
    figure.add_heatmap(
        z=[[None if v != v else round(v, 4) for v in row] for row in cells.tolist()],
        x=[c if isinstance(c, int) else style.label(c) for c in columns],
        y=[str(k) for k in iterations],
        colorscale=SCALE,
        zmin=-most or -1,
        zmax=most or 1,
        colorbar=style.colourbar(quantity),
        hovertemplate=f"{style.label(y)} %{{y}}, {style.label(x)} %{{x}}: %{{z:.3g}}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False, zeroline=False)
    figure.update_xaxes(showgrid=False, zeroline=False)
    if len(columns) <= 20 and all(isinstance(label, int) for label in columns):
        figure.update_xaxes(dtick=1)
    if not bool(cells.isfinite().any()):
        figure.add_annotation(
            text=style.label(f"no {quantity} is defined, such as where donor and example answer alike"),
            **{"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False},
        )
    return figure
