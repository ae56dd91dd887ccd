"""Figures of probes: curves over iterations, heat maps of iterations and positions."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..plots import style
from ..plots.heatmaps import position_heatmap
from ..plots.style import label
from .probe_result import ProbeResult

if TYPE_CHECKING:
    import plotly.graph_objects as go


def curves(
    probes: ProbeResult, site: str | None = None, title: str = "", position: int = 0, **extra: Tensor
) -> "go.Figure":
    """The score over iterations with its interval and its controls.

    Arguments:
        position: index of the position in the probes' scores.
        extra: further curves by name, (iteration), such as the model's own answers.
    """
    s = probes.sites.index(site or probes.sites[0])
    classes = probes.kind == "classes"
    quantity = "accuracy on held-out examples" if classes else "R² on held-out examples"
    figure = style.empty(title or f"Linear probes of '{probes.sites[s]}'", "iterations run", quantity, 400)
    k = list(probes.iterations)
    low, high = (end[s, :, position].clamp(min=-1).tolist() for end in (probes.low, probes.high))
    figure.add_scatter(
        x=k + k[::-1], y=[cell_value(v) for v in high + low[::-1]], fill="toself", mode="none",
        hoverinfo="skip",
        fillcolor="rgba(0,114,178,0.18)", name="95 % interval",
    )  # fmt: skip
    lines = [
        ("probe", probes.score[s, :, position], style.BLUE, 3, "solid"),
        ("random features", probes.random[s, :, position], style.ORANGE, 2, "solid"),
        ("baseline labels", probes.baseline[s, :, position], style.PURPLE, 2, "solid"),
        ("shuffled labels", probes.control[s, :, position], style.GREY, 2, "dash"),
        ("most frequent", probes.majority[s, :, position], style.GREY, 1.5, "dot"),
    ]
    more = [(label(name.replace("_", " ")), v, style.GREEN, 2.5, "solid") for name, v in extra.items()]
    for name, values, colour, width, dash in lines[:1] + more + lines[1:]:
        if bool(values.isnan().all()) or (name == "most frequent" and not classes):
            continue
        figure.add_scatter(
            x=k[: len(values)], y=[cell_value(v) for v in values.clamp(min=-1).tolist()], name=name,
            mode="lines+markers",
            line={"color": colour, "width": width, "dash": dash}, marker={"size": 5},
            hovertemplate=f"{name}, iteration %{{x}}: %{{y:{'.1%' if classes else '.2f'}}}<extra></extra>",
        )  # fmt: skip
    if classes:
        figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def score_map(probes: ProbeResult, site: str | None = None, title: str = "") -> "go.Figure":
    """A heat map of scores by iteration (downwards) and position (to the right)."""
    s = probes.sites.index(site or probes.sites[0])
    classes = probes.kind == "classes"
    quantity = "accuracy" if classes else "R²"
    cells = [[cell_value(v) for v in row] for row in probes.score[s].tolist()]
    shown = ".1%" if classes else ".2f"
    figure = position_heatmap(
        cells, title or f"Linear probes of '{probes.sites[s]}'", "iterations run", quantity,
        hover=f"after %{{y}} iterations, position %{{x}}: {quantity} %{{z:{shown}}}, shuffled labels "
              f"%{{customdata[0]:{shown}}}, "
        f"random features %{{customdata[1]:{shown}}}",
        height=min(760, 170 + 16 * len(cells)),
        customdata=[
            [[cell_value(c), cell_value(r)] for c, r in zip(one, two, strict=True)]
            for one, two in zip(probes.control[s].tolist(), probes.random[s].tolist(), strict=True)
        ],
        zmin=0.0, zmax=1.0, bar={"tickformat": ".0%"} if classes else {},
    )  # fmt: skip
    figure.update_traces(
        x=list(probes.positions), y=list(probes.iterations), zmin=colour_minimum(probes.majority[s])
    )
    set_ticks(figure, list(probes.positions), list(probes.iterations))
    return figure


def cell_value(value: float) -> float | None:
    """A value of a figure: four digits, None for NaN."""
    return None if value != value else round(value, 4)


def colour_minimum(chance: Tensor) -> float:
    """The lower end of a colour scale: the smallest chance level."""
    return round(max(0.0, float(chance[~chance.isnan()].min())), 2) if bool((~chance.isnan()).any()) else 0.0


def set_ticks(figure: Any, x: list[Any], y: list[Any]) -> None:
    """A tick at each column and row where there are at most twelve of them."""
    if len(x) <= 12:
        figure.update_xaxes(tickmode="array", tickvals=x)
    if len(y) <= 12:
        figure.update_yaxes(tickmode="array", tickvals=y)
