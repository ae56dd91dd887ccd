"""The halting distribution by position, over all positions, by difficulty and by example."""

import math
from typing import TYPE_CHECKING

from torch import Tensor

from loopscope.common.text import level, number, percent, plural
from loopscope.plots import style
from loopscope.plots.heatmaps import position_heatmap
from loopscope.plots.panels import Panel

from .result import HaltingResult

if TYPE_CHECKING:
    import plotly.graph_objects as go


def headline(result: HaltingResult) -> tuple[str, str]:
    """The result in one number, and what the number is."""
    if result.not_halted == 1:
        return "none", f"of the answers halts within {plural(result.iterations, 'iteration')} ({result.kind})"
    ended = f"; {percent(result.not_halted)} didn't halt" if result.not_halted else ", own halting, mean"
    return f"{result.mean:.1f} of {result.iterations}", f"iterations{ended} ({result.kind})"


def draw(result: HaltingResult) -> "go.Figure":
    """Heat map of the halting iterations at each position; where no answer halts, only that."""
    if result.not_halted == 1:
        return _distribution(result)
    figure = position_heatmap(
        [[None if v != v else round(v, 4) for v in row] for row in result.by_position.T.tolist()],
        "Halting, by position (white line: mean)",
        "iterations run (k)",
        "fraction of examples",
        hover="position %{x} halts after %{y}: %{z:.1%}",
        zmin=0,
        y0=1,
        dy=1,
    )
    line = {"color": "white", "width": 2}
    mean = result.mean_by_position.tolist()
    figure.add_scatter(
        y=mean, mode="lines", name="mean", line=line, hovertemplate="mean %{y:.2f}<extra></extra>"
    )
    figure.update_layout(showlegend=False)
    return figure


def panels(result: HaltingResult) -> list[Panel]:
    """The panels of a report. Where no answer halts there is nothing to compare."""
    rows = [] if result.not_halted == 1 else [_position_panel(result)]
    rows.append(_distribution_panel(result))
    if result.not_halted == 1:
        return rows
    if result.difficulty is not None and len(result.levels) > 1:
        rows.append(_difficulty_panel(result))
    known = result.by_example[~result.by_example.isnan()]
    if len(known.unique()) > 1:
        rows.append(
            Panel(
                "Iterations run until halting, by example",
                _examples(result),
                f"On average over an example's answers, the iterations run until halting range from "
                f"{float(known.min()):.1f} to {float(known.max()):.1f}.",
                "Bars count examples by the mean over their answers.",
            )
        )
    return rows


def _position_panel(result: HaltingResult) -> Panel:
    return Panel(
        "Iterations run until halting, by position (white line: mean)",
        draw(result),
        _range_sentence(result, result.mean_by_position[result.answered]),
        "Each column is a position and shows the fraction of the examples with an answer there that halt "
        "after k iterations (of all examples where none has one); k increases downwards. The white line is "
        "their mean.",
    )


def _distribution_panel(result: HaltingResult) -> Panel:
    none = ""
    if result.not_halted == 1:
        none = f"No answer halts within the {plural(result.iterations, 'iteration')} that were run. "
        if result.others_halted == result.others_halted:
            none += f"Of the positions without an answer {percent(result.others_halted)} halt."
    share = "" if none else f"{percent(result.not_halted)} of the answers had not halted when the loop "
    ended = "" if none else f"ended, after {plural(result.iterations, 'iteration')}."
    return Panel(
        "Halting distribution",
        _distribution(result),
        f"{_mode_sentence(result)}{none.rstrip()}{share}{ended}{result.mechanism_sentence()}",
        "Bars count the answers of all examples by the iterations run until they halt. Orange: answers that "
        "had not halted when the loop ended.",
    )


def _range_sentence(result: HaltingResult, means: Tensor) -> str:
    if len(means) == 1:
        return f"The answered position runs {means[0]:.1f} iterations until it halts, on average."
    low, high = f"{means.min():.2f}", f"{means.max():.2f}"
    span = f"{low} at each answered position" if low == high else f"{low} to {high} over the positions"
    return (
        f"Mean over the answers at one position, iterations run until halting: "
        f"{span}{result.position_clause()}."
    )


def _mode_sentence(result: HaltingResult) -> str:
    mode = int(result.share.argmax())
    share = float(result.share[mode])
    if share == 0:
        return ""
    return f"Most often answers halt after {plural(mode + 1, 'iteration')} ({percent(share)} of them). "


def _difficulty_panel(result: HaltingResult) -> Panel:
    low, high, unit = result.mean_by_level[0], result.mean_by_level[-1], result.difficulty or ""
    by_difficulty = ""
    if not math.isnan(result.difficulty_correlation):
        by_difficulty = f"; the rank correlation is {number(result.difficulty_correlation, 2)}"
    return Panel(
        "Iterations run until halting, by difficulty",
        _difficulty(result),
        f"The mean number of iterations run goes from {low:.1f} at {level(float(result.levels[0]), unit)} to "
        f"{high:.1f} at {level(float(result.levels[-1]), unit)}{by_difficulty}.",
        "Each column is a difficulty and shows the fraction of its answers that halt after k "
        "iterations; k increases downwards. The white line is the mean; larger points have more examples.",
    )


def _distribution(result: HaltingResult) -> "go.Figure":
    figure = style.empty("Halting distribution", "iterations run (k)", "fraction of answers", 300)
    figure.add_bar(
        x=list(range(1, result.iterations + 1)),
        y=result.share.tolist(),
        marker={"color": style.BLUE},
        hovertemplate="after %{x}: %{y:.2%}<extra></extra>",
        name="halted",
    )
    if result.not_halted > 0:
        figure.add_bar(
            x=[result.iterations],
            y=[result.not_halted],
            marker={"color": style.ORANGE},
            hovertemplate="not halted after %{x}: %{y:.2%}<extra></extra>",
            name=f"not halted after {plural(result.iterations, 'iteration')}",
        )
    figure.update_xaxes(range=[0.4, result.iterations + 0.6])
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(barmode="stack")
    return figure


def _difficulty(result: HaltingResult) -> "go.Figure":
    name = style.label(result.difficulty)
    figure = position_heatmap(
        [[round(v, 4) for v in row] for row in result.by_level.T.tolist()],
        "Halting, by difficulty (white line: mean)",
        "iterations run (k)",
        "fraction of answers",
        hover=f"{name} %{{x}} halts after %{{y}}: %{{z:.1%}}",
        zmin=0,
        y0=1,
        dy=1,
        x=result.levels.tolist(),
    )
    size = (5 + 9 * (result.examples / result.examples.max()).sqrt()).tolist()
    figure.add_scatter(
        x=result.levels.tolist(), y=result.mean_by_level.tolist(), mode="lines+markers",
        marker={"size": size, "color": "white", "opacity": 1}, line={"color": "white", "width": 2},
        hovertemplate="mean %{y:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(showlegend=False, xaxis={"title": {"text": name}})
    return figure


def _examples(result: HaltingResult) -> "go.Figure":
    figure = style.empty("Halting by example", "iterations run (k), mean of an example", "examples", 300)
    figure.add_histogram(
        x=result.by_example.tolist(),
        nbinsx=24,
        marker={"color": style.BLUE},
        hovertemplate="%{x}: %{y} examples<extra></extra>",
    )
    return figure
