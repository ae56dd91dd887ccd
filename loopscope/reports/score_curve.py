"""A score by iteration as a curve with the band of its intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..common.evidence import Estimate
from ..common.score_band import ScoreBand
from ..common.text import percent
from ..plots import style
from ..plots.bands import add_band

if TYPE_CHECKING:
    import plotly.graph_objects as go

_FEW = 13
"""States up to which each has a tick."""


@dataclass(frozen=True)
class ScoreCurve:
    """A score by iteration."""

    name: str
    iterations: Sequence[int]
    band: ScoreBand

    def at(self, k: int) -> Estimate:
        """The score after k iterations, or after the most that are no more."""
        row = max((i for i, one in enumerate(self.iterations) if one <= k), default=0)
        return self.band.at(row, self.name)


def interval_text(estimate: Estimate) -> str:
    """A share with its interval."""
    if estimate.low != estimate.low:
        return percent(estimate.value)
    return f"{percent(estimate.value)} (95 % interval {percent(estimate.low)} to {percent(estimate.high)})"


def draw_curve(figure: "go.Figure", curve: ScoreCurve, name: str, colour: str, dash: str = "solid") -> None:
    """Add a curve with its band.

    Arguments:
        name: in the legend; plain text.
    """
    x = list(curve.iterations)
    add_band(figure, x, curve.band.low, curve.band.high, colour=colour)
    figure.add_scatter(
        x=x,
        y=[None if v != v else round(v, 4) for v in curve.band.value.tolist()],
        mode="lines",
        name=style.label(name),
        line={"color": colour, "width": 2.5, "dash": dash},
        customdata=[
            f" ({percent(low)} to {percent(high)})" if low == low else ""
            for low, high in zip(curve.band.low.tolist(), curve.band.high.tolist(), strict=True)
        ],
        hovertemplate=f"{style.label(name)}, k = %{{x}}: %{{y:.1%}}%{{customdata}}<extra></extra>",
    )


def finish_curves(figure: "go.Figure", curves: Sequence[ScoreCurve], depth: int) -> None:
    """The model's depth, and the range of a share; scores far below 0 are cut off."""
    figure.add_vline(x=depth, line={"color": style.GREY, "width": 1, "dash": "dot"})
    if all(len(curve.iterations) <= _FEW for curve in curves):
        figure.update_xaxes(dtick=1)
    values = torch.cat([curve.band.value for curve in curves]).nan_to_num(0.0)
    figure.update_yaxes(range=[max(min(0.0, float(values.min())), -1.0), 1.03], tickformat=".0%")
