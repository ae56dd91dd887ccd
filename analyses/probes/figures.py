"""Figures of probes: the panels and the headline that a report shows."""

from typing import Any

from loopscope.plots import style
from loopscope.plots.heatmaps import map_of
from loopscope.plots.panels import Panel
from loopscope.probing.fact_curve import trail

from .measure import ProbesResult


def headline(result: ProbesResult) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    name, read = next(iter(result.facts.items()))
    formed = "never" if read.formed is None else str(read.formed)
    return formed, f"iterations until a probe reads the {name} off the states. {result.verdict.sentence}"


def draw(result: ProbesResult) -> Any:
    """All facts over iterations, and the model's own answers."""
    numbers = any(read.kind == "numbers" for read in result.facts.values())
    quantity = "accuracy or R² on examples held out" if numbers else "accuracy on examples held out"
    figure = style.empty("Facts, read off the states", "iterations run", quantity, 420)
    k, shown = list(result.iterations), ".2f" if numbers else ".1%"
    for (name, read), colour in zip(result.facts.items(), style.COLOURS * 3, strict=False):
        called, rgb = style.label(name), ",".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
        band = [*read.high.tolist(), *read.low.tolist()[::-1]]
        figure.add_scatter(
            x=k + k[::-1], y=[_cell(v) for v in band], fill="toself", mode="none", hoverinfo="skip", showlegend=False,
            fillcolor=f"rgba({rgb},0.12)",
        )  # fmt: skip
        figure.add_scatter(
            x=k, y=[_cell(v) for v in read.score.tolist()], name=called, mode="lines+markers", marker={"size": 5},
            line={"color": colour, "width": 3 if name == "answer" else 2},
            hovertemplate=f"{called}, after %{{x}}: %{{y:{shown}}}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=k, y=[_cell(v) for v in read.floor.tolist()], mode="lines", showlegend=False,
            line={"color": colour, "width": 1.5, "dash": "dot"},
            hovertemplate=f"{called}, without the states: %{{y:{shown}}}<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=[None], y=[None], mode="lines", name="without the states, in the same colour",
        line={"color": style.GREY, "width": 1.5, "dash": "dot"},
    )  # fmt: skip
    if not bool(result.own.isnan().all()):
        figure.add_scatter(
            x=k, y=[_cell(v) for v in result.own.tolist()], name="the model's own answers", mode="lines",
            line={"color": style.GREY, "width": 2, "dash": "dash"},
            hovertemplate=f"the model's own answers: %{{y:{shown}}}<extra></extra>",
        )  # fmt: skip
    if not numbers:
        figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    if len(k) <= 12:  # left alone, plotly puts marks between the whole numbers
        figure.update_xaxes(dtick=1)
    return figure


def _cell(value: float) -> float | None:
    return None if value != value else round(max(value, -1.0), 4)


def panels(result: ProbesResult) -> list[Panel]:
    """The finding as a report shows it."""
    name, read = next(iter(result.facts.items()))
    steps = [
        f"{n} from iteration {r.learned[0]} on" if r.learned else f"{n} not shown"
        for n, r in result.facts.items()
        if r.on_the_way
    ]
    way = (
        f" Steps on the way, above what the answer alone tells, in {result.examples} examples: "
        f"{', '.join(steps)}."
        if steps
        else ""
    )
    shown = [
        Panel(
            "What linear probes read off the states",
            draw(result),
            f"Score of the {name}: {trail(read.score, result.iterations, read.kind)} iterations.{way}",
            "Each point is a linear probe tested on examples that it has not seen, with its 95 % interval. "
            "Dotted in the same colour: the best of what is had without the states (shuffled labels, random "
            "features, the most frequent, and for steps on the way what the answer alone tells). What can "
            "be read off need not be used.",
        )
    ]
    if result.map.numel():
        shown.append(_where(result))
    return shown


def _where(result: ProbesResult) -> Panel:
    kept = ~result.map.isnan().all(1)
    k = [one for one, keep in zip(result.iterations, kept.tolist(), strict=True) if keep]
    cells = [[_cell(v) for v in row] for row in result.map[kept].tolist()]
    figure = map_of(
        cells, "Where the answer can be read off", "iterations run", "accuracy",
        hover="after %{y} iterations, position %{x}: %{z:.1%}, the model's own %{customdata:.1%}",
        customdata=result.own_map[kept].tolist() if result.own_map.numel() else None,
        zmin=_base(result), zmax=1.0, bar={"tickformat": ".0%"}, height=min(760, 170 + 16 * len(k)),
    )  # fmt: skip
    figure.update_traces(x=list(result.positions), y=k)
    if len(k) <= 12:
        figure.update_yaxes(tickmode="array", tickvals=k)
    good = result.map[kept] >= 0.9
    ends = [f"{int(good[i].sum())} after {k[i]}" for i in sorted({0, len(k) // 4, len(k) // 2, len(k) - 1})]
    return Panel(
        "Where and when the answer can be read off",
        figure,
        f"Of {len(result.positions)} answered positions so many have a probe that is right in 90 %: "
        f"{', '.join(ends)}.",
        "One probe for each position and iteration, tested on examples that it has not seen. Hover for the "
        "model's own answers.",
    )


def _base(result: ProbesResult) -> float:
    """What the colours begin at: saying what is most frequent."""
    return round(float(next(iter(result.facts.values())).majority.nan_to_num(0).min()), 2)
