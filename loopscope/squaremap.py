"""square_map: a heat map of things against the same things, such as all unrolled layers."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from . import drawing


def square_map(
    title: str,
    values: Tensor | None,
    axis: str,
    quantity: str,
    *,
    labels: Sequence[Any],
    digits: int = 4,
    **more: Any,
) -> Any:
    """A square heat map, read like a text from the upper left.

    Arguments:
        values: (item, item); None for an empty figure.
        labels: what each item is called when it is pointed at; numbers also count along the axes.
        more: of plotly's heat map, such as zmax.
    """
    figure = drawing.empty(title, axis, axis, 460)
    if values is None:
        return figure
    numbers = all(isinstance(label, int) for label in labels)
    figure.add_heatmap(
        z=[[None if v != v else round(v, digits) for v in row] for row in values.tolist()],
        **({"x": list(labels), "y": list(labels)} if numbers else {}),
        text=[[f"{a} and {b}" for b in labels] for a in labels],
        colorscale=drawing.SCALE,
        colorbar=drawing.colourbar(quantity),
        hovertemplate="%{text}: %{z}<extra></extra>",
        **more,
    )
    figure.update_yaxes(autorange="reversed", scaleanchor="x", scaleratio=1, showgrid=False)
    figure.update_xaxes(showgrid=False)
    return figure
