"""Scores of the probes by fact and iteration, and the map of positions."""

import math
from typing import TYPE_CHECKING

from loopscope.common.text import percent, plural
from loopscope.plots import style
from loopscope.plots.bands import add_band
from loopscope.plots.heatmaps import position_heatmap
from loopscope.plots.panels import Panel
from loopscope.probing.fact_curve import FactCurve, trail

from .baselines import baselines_sentence
from .measure import ProbesResult
from .verdict import ProbesVerdict

if TYPE_CHECKING:
    import plotly.graph_objects as go


def headline(result: ProbesResult) -> tuple[str, str]:
    """The result in one number, and what the number is."""
    name, curve = next(iter(result.facts.items()))
    text = percent if curve.kind == "classes" else "{:.2f}".format
    quality = curve.score - result.model_score if result.verdict is ProbesVerdict.ahead else curve.score
    i = int(quality.nan_to_num(-math.inf).argmax())
    own = float(result.model_score[i])
    caption = (
        f"{'accuracy' if curve.kind == 'classes' else 'R²'} of a linear probe for the {name} after "
        f"{plural(curve.iterations[i], 'iteration')}; highest baseline {text(float(curve.floor[i]))}"
    )
    if name == "answer" and own == own:
        caption += f", the model's own answers {text(own)}"
    return text(float(curve.score[i])), caption


def draw(result: ProbesResult) -> "go.Figure":
    """Scores of all facts by iteration, and the model's own answers."""
    numbers = any(curve.kind == "numbers" for curve in result.facts.values())
    words = {
        curve.kind == "numbers": "R²" if curve.kind == "numbers" else "accuracy"
        for curve in result.facts.values()
    }
    quantity = f"{' or '.join(words.values())} on held-out examples"
    figure = style.empty("Linear probes", "iterations run (k)", quantity, 420)
    k, digits = list(result.iterations), ".2f" if numbers else ".1%"
    for (name, curve), colour in zip(result.facts.items(), style.COLOURS * 3, strict=False):
        _add_fact(figure, k, style.label(name), curve, colour=colour, digits=digits)
    figure.add_scatter(
        x=[None],
        y=[None],
        mode="lines",
        name="highest baseline",
        line={"color": style.GREY, "width": 1.5, "dash": "dot"},
    )
    if not bool(result.model_score.isnan().all()):
        figure.add_scatter(
            x=k,
            y=[_cell(v) for v in result.model_score.tolist()],
            name="the model's own answers",
            mode="lines",
            line={"color": style.GREY, "width": 2, "dash": "dash"},
            hovertemplate=f"the model's own answers: %{{y:{digits}}}<extra></extra>",
        )
    if not numbers:
        figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    if len(k) <= 12:  # plotly would put ticks between the integers
        figure.update_xaxes(dtick=1)
    return figure


def _add_fact(
    figure: "go.Figure", k: list[int], name: str, curve: FactCurve, *, colour: str, digits: str
) -> None:
    """The score of a fact with its interval, and its floor."""
    add_band(figure, k, curve.low.clamp(min=-1), curve.high.clamp(min=-1), colour=colour)
    figure.add_scatter(
        x=k,
        y=[_cell(v) for v in curve.score.tolist()],
        name=name,
        mode="lines+markers",
        marker={"size": 5},
        line={"color": colour, "width": 3 if name == "answer" else 2},
        hovertemplate=f"{name}, after %{{x}}: %{{y:{digits}}}<extra></extra>",
    )
    figure.add_scatter(
        x=k,
        y=[_cell(v) for v in curve.floor.tolist()],
        mode="lines",
        showlegend=False,
        line={"color": colour, "width": 1.5, "dash": "dot"},
        hovertemplate=f"{name}, highest baseline: %{{y:{digits}}}<extra></extra>",
    )


def _cell(value: float) -> float | None:
    return None if value != value else round(max(value, -1.0), 4)


def panels(result: ProbesResult) -> list[Panel]:
    """The panels of a report."""
    name, curve = next(iter(result.facts.items()))
    steps = [
        f"{n} from iteration {c.learned[0]}" if c.learned else f"{n} not decoded"
        for n, c in result.facts.items()
        if c.is_intermediate
    ]
    intermediate = ""
    if steps:
        intermediate = (
            f" Intermediate steps, above what the answer alone predicts, in {result.examples} examples: "
            f"{', '.join(steps)}."
        )
    rows = [
        Panel(
            "Scores of linear probes by iteration",
            draw(result),
            f"Score of the {name}: {trail(curve.score, result.iterations, curve.kind)}.{intermediate}",
            "Each point is a linear probe tested on held-out examples, with its 95 % interval. Dotted, in "
            "the same colour: the highest baseline of shuffled labels, random features, the most frequent "
            "class, and for intermediate steps the answer alone. "
            f"{_variance(curve)}{baselines_sentence(result.baselines, curve.kind)} {result.how} "
            f"{result.groups_sentence} A decodable fact need not be used.",
        )
    ]
    if result.probe_map.numel():
        rows.append(_map_panel(result))
    return rows


def _variance(curve: FactCurve) -> str:
    """What R² is here, as a task's own score of numbers may divide by another variance."""
    if curve.kind == "classes":
        return ""
    return (
        "R² is 1 minus the squared error over the variance of these examples' labels; a score of the task "
        "itself divides by the variance that its answers have in all. "
    )


def _map_panel(result: ProbesResult) -> Panel:
    probed = ~result.probe_map.isnan().all(1)
    k = [k for k, keep in zip(result.iterations, probed.tolist(), strict=True) if keep]
    figure = position_heatmap(
        [[_cell(v) for v in row] for row in result.probe_map[probed].tolist()],
        "Accuracy of probes for the answer",
        "iterations run (k)",
        "accuracy",
        hover="after %{y} iterations, position %{x}: %{z:.1%}, the model's own %{customdata:.1%}",
        customdata=result.model_map[probed].tolist() if result.model_map.numel() else None,
        zmin=_majority(result),
        zmax=1.0,
        bar={"tickformat": ".0%"},
        height=min(760, 170 + 16 * len(k)),
    )
    figure.update_traces(x=list(result.positions), y=k)
    if len(k) <= 12:
        figure.update_yaxes(tickmode="array", tickvals=k)
    good = result.probe_map[probed] >= 0.9
    counts = [
        f"{int(good[i].sum())} at k = {k[i]}" for i in sorted({0, len(k) // 4, len(k) // 2, len(k) - 1})
    ]
    return Panel(
        "Accuracy of probes by position and iteration",
        figure,
        f"Number of positions, of {len(result.positions)} answered ones, whose probe is right in 90 %: "
        f"{', '.join(counts)}.",
        "One probe for each position and iteration, tested on held-out examples. Hover for the model's own "
        "answers.",
    )


def _majority(result: ProbesResult) -> float:
    """The accuracy of the most frequent class, where the colour scale begins."""
    return round(float(next(iter(result.facts.values())).majority.nan_to_num(0).min()), 2)
