"""Figures of probes."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..plots import style
from ..plots.style import label

if TYPE_CHECKING:
    from .probes import Probes
from ..plots.heatmaps import position_heatmap


def curves(
    probes: "Probes", site: str | None = None, title: str = "", position: int = 0, **shown: Tensor
) -> Any:
    """A score over iterations with its interval, and what stands beside it.

    Arguments:
        position: the number of the position among the probes'.
        shown: further curves by name, (iteration), such as the model's own answers.
    """
    s = probes.sites.index(site or probes.sites[0])
    classes = probes.kind == "classes"
    quantity = "accuracy on examples held out" if classes else "R² on examples held out"
    figure = style.empty(
        title or f"What linear probes read off '{label(probes.sites[s])}'", "iterations run", quantity, 400
    )
    k = list(probes.iterations)
    low, high = (one[s, :, position].clamp(min=-1).tolist() for one in (probes.low, probes.high))
    figure.add_scatter(
        x=k + k[::-1], y=[_cell(v) for v in high + low[::-1]], fill="toself", mode="none", hoverinfo="skip",
        fillcolor="rgba(0,114,178,0.18)", name="95 % interval",
    )  # fmt: skip
    lines = [
        ("probe", probes.score[s, :, position], style.BLUE, 3, "solid"),
        ("random features", probes.random[s, :, position], style.ORANGE, 2, "solid"),
        ("told beside", probes.baseline[s, :, position], style.PURPLE, 2, "solid"),
        ("shuffled labels", probes.control[s, :, position], style.GREY, 2, "dash"),
        ("most frequent", probes.majority[s, :, position], style.GREY, 1.5, "dot"),
    ]
    extra = [(name.replace("_", " "), v, style.GREEN, 2.5, "solid") for name, v in shown.items()]
    for name, values, colour, width, dash in lines[:1] + extra + lines[1:]:
        if bool(values.isnan().all()) or (name == "most frequent" and not classes):
            continue
        figure.add_scatter(
            x=k[: len(values)], y=[_cell(v) for v in values.clamp(min=-1).tolist()], name=name, mode="lines+markers",
            line={"color": colour, "width": width, "dash": dash}, marker={"size": 5},
            hovertemplate=f"{name}, iteration %{{x}}: %{{y:{'.1%' if classes else '.2f'}}}<extra></extra>",
        )  # fmt: skip
    if classes:
        figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def score_map(probes: "Probes", site: str | None = None, title: str = "") -> Any:
    """Scores by iteration (downwards) and position (to the right)."""
    s = probes.sites.index(site or probes.sites[0])
    classes = probes.kind == "classes"
    quantity = "accuracy" if classes else "R²"
    cells = [[_cell(v) for v in row] for row in probes.score[s].tolist()]
    shown = ".1%" if classes else ".2f"
    figure = position_heatmap(
        cells, title or f"What linear probes read off '{label(probes.sites[s])}'", "iterations run", quantity,
        hover=f"after %{{y}} iterations, position %{{x}}: {quantity} %{{z:{shown}}}, shuffled labels "
              f"%{{customdata[0]:{shown}}}, "
        f"random features %{{customdata[1]:{shown}}}",
        height=min(760, 170 + 16 * len(cells)),
        customdata=[
            [[_cell(c), _cell(r)] for c, r in zip(one, two, strict=True)]
            for one, two in zip(probes.control[s].tolist(), probes.random[s].tolist(), strict=True)
        ],
        zmin=0.0, zmax=1.0, bar={"tickformat": ".0%"} if classes else {},
    )  # fmt: skip
    figure.update_traces(x=list(probes.positions), y=list(probes.iterations), zmin=_base(probes.majority[s]))
    _marks(figure, list(probes.positions), list(probes.iterations))
    return figure


def _cell(value: float) -> float | None:
    return None if value != value else round(value, 4)


def _base(chance: Tensor) -> float:
    """What the colours begin at: what is had by guessing."""
    return round(max(0.0, float(chance[~chance.isnan()].min())), 2) if bool((~chance.isnan()).any()) else 0.0


def _marks(figure: Any, x: list[Any], y: list[Any]) -> None:
    """A mark at each column and row where they are few, though they may be far apart."""
    if len(x) <= 12:
        figure.update_xaxes(tickmode="array", tickvals=x)
    if len(y) <= 12:
        figure.update_yaxes(tickmode="array", tickvals=y)
