"""Figures of locality: the panels and the headline that a report shows."""

from typing import Any

from loopscope.common.text import number
from loopscope.plots import style
from loopscope.plots.heatmaps import map_of
from loopscope.plots.panels import Panel

from .measure import LocalityResult


def headline(result: LocalityResult) -> tuple[str, str]:
    """The finding as a tile."""
    known = [value for value in result.locality.tolist() if value == value]
    return (
        f"{number(known[0], 2)} ×" if known else "0",
        f"chance, the effect on neighbours at first. {result.verdict.sentence}",
    )


def draw(result: LocalityResult) -> Any:
    """Where the effect is, by distance and iterations since the write."""
    shares = result.spread[
        :,
        : int((result.spread > 0.005).any(0).nonzero().max()) + 1
        if bool((result.spread > 0.005).any())
        else 1,
    ]
    figure = map_of(
        [[None if v != v else round(v, 4) for v in row] for row in shares.tolist()],
        "Where the effect of a write is found", "iterations since the write", "share of the effect",
        hover="%{y} iterations after the write, %{x} steps away: %{z:.1%} of the effect", height=170 + 26 * len(result.more),
        zmin=0,
    )  # fmt: skip
    figure.update_xaxes(title="steps from the position written", dtick=1 if shares.shape[1] <= 20 else None)
    figure.update_yaxes(dtick=1)
    return figure


def curves(result: LocalityResult) -> Any:
    """How many times chance the effect falls on neighbours."""
    figure = style.empty(
        "How local a write's effect on others is", "iterations since the write", "times chance", 360
    )
    xs = list(result.more)
    band = (
        [None if v != v else round(v, 4) for v in result.high.tolist()],
        [None if v != v else round(v, 4) for v in result.low.tolist()],
    )
    for values, fill in ((band[0], None), (band[1], "tonexty")):
        figure.add_scatter(
            x=xs, y=values, mode="lines", line={"width": 0}, fill=fill, fillcolor="rgba(0,114,178,0.2)", showlegend=False,
            hoverinfo="skip",
        )  # fmt: skip
    figure.add_scatter(
        x=xs, y=[None if v != v else round(v, 4) for v in result.locality.tolist()], mode="lines+markers",
        name="effect on neighbours",
        line={"color": style.BLUE, "width": 2}, hovertemplate="%{x} iterations after: %{y:.2f} times "
                                                              "chance<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[xs[0], xs[-1]],
        y=[1, 1],
        mode="lines",
        name="chance",
        line={"color": style.GREY, "dash": "dot"},
        hoverinfo="skip",
    )
    figure.update_yaxes(rangemode="tozero")
    return figure


def panels(result: LocalityResult) -> list[Panel]:
    """The finding as a report shows it."""
    known = [i for i, value in enumerate(result.distance.tolist()) if value == value]
    gone = (
        f" The effect on others is {number(float(result.distance[known[0]]), 2)} steps away at first, and "
        f"{number(float(result.distance[known[-1]]), 2)} when {result.more[known[-1]]} iterations have "
        "followed."
        if known
        else ""
    )
    return [
        Panel(
            "Where the effect of a write is found",
            draw(result),
            f"{result.verdict.sentence}{gone}",
            f"{result.replacement[0].upper()}{result.replacement[1:]} is written at one position of state "
            f"{result.iteration}; each row shows how far away its effect on the answers is so many "
            "iterations later. Rows add up to 1.",
        ),
        Panel(
            "How local the effect on others is",
            curves(result),
            f"At first {number(float(result.locality[known[0]]), 2)} times as much falls on neighbours as "
            "by chance."
            if known
            else "Nothing reaches another position.",
            f"Neighbours are {result.neighbours}. 1 is an even effect on all positions that can be reached; "
            "the band is a 95 % interval "
            f"over {result.examples} examples.",
        ),
    ]
