"""Figures of probes."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from .. import drawing
from ..drawing import label

if TYPE_CHECKING:
    from .pairs import PairProbes
    from .probes import Probes
    from .transfer import Transfer
    from .which import WhichIteration


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
    figure = drawing.empty(title or f"Read off {label(probes.sites[s])}", "iterations run", quantity, 400)
    k = list(probes.iterations)
    low, high = (one[s, :, position].clamp(min=-1).tolist() for one in (probes.low, probes.high))
    figure.add_scatter(
        x=k + k[::-1], y=[_cell(v) for v in high + low[::-1]], fill="toself", mode="none", hoverinfo="skip",
        fillcolor="rgba(0,114,178,0.18)", name="95 % interval",
    )  # fmt: skip
    lines = [
        ("probe", probes.score[s, :, position], drawing.BLUE, 3, "solid"),
        ("random features", probes.random[s, :, position], drawing.ORANGE, 2, "solid"),
        ("told beside", probes.beside[s, :, position], drawing.PURPLE, 2, "solid"),
        ("shuffled labels", probes.control[s, :, position], drawing.GREY, 2, "dash"),
        ("most frequent", probes.majority[s, :, position], drawing.GREY, 1.5, "dot"),
    ]
    extra = [(name.replace("_", " "), v, drawing.GREEN, 2.5, "solid") for name, v in shown.items()]
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
    figure = drawing.map_of(
        cells, title or f"What probes read off {label(probes.sites[s])}", "iterations run", quantity,
        hover=f"after %{{y}} iterations, position %{{x}}: {quantity} %{{z:{shown}}}, shuffled labels %{{customdata[0]:{shown}}}, "
        f"random features %{{customdata[1]:{shown}}}",
        height=min(760, 170 + 16 * len(cells)),
        customdata=[
            [[_cell(c), _cell(r)] for c, r in zip(one, two, strict=True)]
            for one, two in zip(probes.control[s].tolist(), probes.random[s].tolist(), strict=True)
        ],
        zmin=0.0, zmax=1.0, bar={"tickformat": ".0%"} if classes else {},
    )  # fmt: skip
    figure.update_traces(x=list(probes.positions), y=list(probes.iterations))
    return figure


def transfer_map(found: "Transfer") -> Any:
    """Scores by the iteration trained at (downwards) and tested at (to the right)."""
    classes = found.kind == "classes"
    quantity = "accuracy" if classes else "R²"
    cells = [[_cell(max(v, -1.0)) for v in row] for row in found.score.tolist()]
    figure = drawing.map_of(
        cells, "Trained at one iteration, tested at another", "trained after so many iterations", quantity,
        hover=f"trained after %{{y}}, tested after %{{x}}: {quantity} %{{z:{'.1%' if classes else '.2f'}}}",
        zmin=0.0, zmax=1.0, bar={"tickformat": ".0%"} if classes else {},
    )  # fmt: skip
    figure.update_traces(x=list(found.tested), y=list(found.trained))
    figure.update_xaxes(title={"text": "tested after so many iterations"})
    return figure


def confusion_map(found: "WhichIteration") -> Any:
    """What the probe says by what is so."""
    figure = drawing.map_of(
        found.confusion.tolist(), "Which iteration is it?", "true iteration", "fraction of the row",
        hover="after %{y} iterations, said %{x}: %{z:.1%}",
        zmin=0.0, zmax=1.0, bar={"tickformat": ".0%"},
    )  # fmt: skip
    figure.update_traces(x=list(found.iterations), y=list(found.iterations))
    figure.update_xaxes(title={"text": "iteration that the probe says"})
    return figure


def pair_curves(found: "PairProbes") -> Any:
    """Accuracy and flip rate of a relation, by iteration."""
    figure = drawing.empty(
        "A relation, read off two states", "iterations run", "fraction of pairs held out", 400
    )
    lines = (
        ("both orders right", found.score, drawing.BLUE, 3, "solid"),
        ("changes sign when turned round", found.flip, drawing.GREEN, 2, "solid"),
        ("from one state alone", found.single, drawing.ORANGE, 2, "solid"),
        ("drawn by lot", found.control, drawing.GREY, 2, "dash"),
    )
    for name, values, colour, width, dash in lines:
        figure.add_scatter(
            x=list(found.iterations), y=[round(v, 4) for v in values.tolist()], name=name, mode="lines+markers",
            line={"color": colour, "width": width, "dash": dash}, hovertemplate=f"{name}: %{{y:.1%}}<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def _cell(value: float) -> float | None:
    return None if value != value else round(value, 4)
