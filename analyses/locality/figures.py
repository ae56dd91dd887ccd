"""The effect by distance, and the effect on neighbours relative to a uniform one."""

from typing import TYPE_CHECKING

from loopscope.common.text import number, percent, plural
from loopscope.plots import style
from loopscope.plots.bands import add_band, with_gaps
from loopscope.plots.heatmaps import position_heatmap
from loopscope.plots.panels import Panel

from .result import LocalityResult
from .verdict import LocalityVerdict

if TYPE_CHECKING:
    import plotly.graph_objects as go

AFTER_PATCH = "iterations after the patch (m)"
VISIBLE, LEAST_DISTANCES = 0.005, 4
"""Distances beyond the last share above the first are not drawn, except that this many are."""


def headline(result: LocalityResult) -> tuple[str, str]:
    """The result in one number, and what the number is."""
    affected = result.affected
    if not affected:
        return "none", "effect of patching one position on the answers at others"
    m = affected[0]
    value = float(result.locality[m])
    if value != value or result.verdict is LocalityVerdict.little:
        return (
            percent(1 - float(result.self_share[affected].min())),
            "of the effect of patching one position is on the answers at others, at most",
        )
    return (
        f"{number(value, 2)} ×",
        f"effect on neighbours relative to a uniform effect, {plural(result.after[m], 'iteration')} after "
        "the patch",
    )


def draw(result: LocalityResult) -> "go.Figure":
    """Share of the effect by distance and iterations after the intervention."""
    visible = (result.by_distance > VISIBLE).any(0)
    last = int(visible.nonzero().max()) + 1 if bool(visible.any()) else 1
    shares = result.by_distance[:, : max(last, LEAST_DISTANCES)]
    figure = position_heatmap(
        [with_gaps(row) for row in shares],
        "Effect by distance",
        AFTER_PATCH,
        "share of the effect",
        hover="m = %{y}, at distance %{x}: %{z:.1%} of the effect",
        height=170 + 26 * len(result.after),
        zmin=0,
        zmax=1,
    )
    figure.update_xaxes(
        title="distance from the patched position", dtick=1 if shares.shape[1] <= 20 else None, tickangle=0
    )
    figure.update_yaxes(dtick=1)
    return figure


def curves(result: LocalityResult) -> "go.Figure":
    """The effect on neighbours relative to a uniform one."""
    figure = style.empty("Effect on neighbours", AFTER_PATCH, "relative to uniform", 360)
    xs = list(result.after)
    add_band(figure, xs, result.low, result.high, colour=style.BLUE)
    figure.add_scatter(
        x=xs,
        y=with_gaps(result.locality),
        mode="lines+markers",
        name="effect on neighbours",
        line={"color": style.BLUE, "width": 2},
        hovertemplate="m = %{x}: %{y:.2f} times uniform<extra></extra>",
    )
    figure.add_scatter(
        x=[xs[0], xs[-1]],
        y=[1, 1],
        mode="lines",
        name="uniform",
        line={"color": style.GREY, "dash": "dot"},
        hoverinfo="skip",
    )
    figure.update_yaxes(rangemode="tozero")
    return figure


def _empty_rows(result: LocalityResult) -> str:
    """Which rows have no share to show, as part of a sentence; nothing if all have."""
    empty = [m for m, row in zip(result.after, result.by_distance, strict=True) if bool(row.isnan().any())]
    if not empty:
        return ""
    return f"; at m = {', '.join(map(str, empty))} no answer changes, and the row is empty"


def panels(result: LocalityResult) -> list[Panel]:
    """The panels of a report."""
    finite = result.affected
    distances, neighbours = "", "No other position is affected."
    if finite:
        first, last = finite[0], finite[-1]
        most = min(finite, key=lambda i: float(result.self_share[i]))
        distances = (
            f" Up to {percent(1 - float(result.self_share[most]))} of the effect is on other positions "
            f"(m = {result.after[most]}). Their mean distance, weighted by the effect, is "
            f"{number(float(result.distance[first]), 2)} at first (m = {result.after[first]}), and "
            f"{number(float(result.distance[last]), 2)} after {plural(result.after[last], 'iteration')}."
        )
        neighbours = (
            f"At first (m = {result.after[first]}) the effect on neighbours is "
            f"{number(float(result.locality[first]), 2)} times that of a uniform effect."
        )
    return [
        Panel(
            "Effect of an intervention by distance",
            draw(result),
            f"{result.sentence}{distances}",
            f"The state at k = {result.iteration} is replaced at one position by {result.replacement}; each "
            "row shows the share of the effect on the answers at each distance, m iterations later. "
            f"Rows sum to 1{_empty_rows(result)}. The distance counts steps from neighbour to neighbour. "
            f"Neighbours: {result.neighbours}.",
        ),
        Panel(
            "Effect on neighbours relative to a uniform effect",
            curves(result),
            neighbours,
            f"Neighbours are {result.neighbours}. 1 is a uniform effect on all reachable positions; the "
            f"band is a 95 % interval over {result.examples} examples.",
        ),
    ]
