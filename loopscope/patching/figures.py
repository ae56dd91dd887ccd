"""The picture of a grid of effects."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..plots import style

SCALE = "RdBu"
"""Red below 0, blue above it, white at 0: told apart with and without colour blindness."""


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
) -> Any:
    """Iterations downwards, positions (or heads) to the right; 0 is white.

    Arguments:
        cells: (iteration, column); NaN leaves a gap.
        most: where the colours end, on both sides; None: at the largest cell.
    """
    figure = style.empty(title, x, y, min(760, 170 + 18 * len(iterations)))
    most = float(cells.abs().nan_to_num().max()) if most is None else most
    figure.add_heatmap(
        z=[[None if v != v else round(v, 4) for v in row] for row in cells.tolist()],
        x=list(columns),
        y=[str(k) for k in iterations],
        colorscale=SCALE,
        zmin=-most or -1,
        zmax=most or 1,
        colorbar=style.colourbar(quantity),
        hovertemplate=f"{y} %{{y}}, {x} %{{x}}: %{{z:.3g}}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False, zeroline=False)
    figure.update_xaxes(showgrid=False, zeroline=False)
    if len(columns) <= 20 and all(isinstance(one, int) for one in columns):
        figure.update_xaxes(dtick=1)
    return figure
