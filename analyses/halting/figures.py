"""The halting distribution by position, over all positions, by difficulty and by example."""

import math
from typing import TYPE_CHECKING

from loopscope.common.text import level, number, percent
from loopscope.plots import style
from loopscope.plots.heatmaps import position_heatmap
from loopscope.plots.panels import Panel

from .measure import HaltingResult

if TYPE_CHECKING:
    import plotly.graph_objects as go


def headline(result: HaltingResult) -> tuple[str, str]:
    """The result in one number, and what the number is."""
    return f"{result.cost:.1f} iterations", f"mean ponder cost. {result.sentence}"


def draw(result: HaltingResult) -> "go.Figure":
    """Heat map of the halting iterations at each position."""
    figure = position_heatmap(
        [[None if v != v else round(v, 4) for v in row] for row in result.by_position.T.tolist()],
        "Halting, by position and iteration",
        "halting iteration",
        "fraction of examples",
        hover="position %{x} halts in iteration %{y}: %{z:.1%}",
        zmin=0,
    )
    line = {"color": "white", "width": 2}
    mean = result.mean_by_position.tolist()
    figure.add_scatter(
        y=mean, mode="lines", name="mean", line=line, hovertemplate="mean %{y:.2f}<extra></extra>"
    )
    figure.update_layout(showlegend=False)
    return figure


def panels(result: HaltingResult) -> list[Panel]:
    """The panels of a report."""
    means = result.mean_by_position[result.answered]
    mode = int(result.share.argmax())
    rows = [
        Panel(
            "Halting iteration by position",
            draw(result),
            f"{result.sentence} The mean halting iteration ranges from {means.min():.1f} to "
            f"{means.max():.1f} over the answered positions{result.position_clause()}.",
            "Each column is a position and shows the fraction of examples that halt there in each "
            "iteration; iterations run downwards. The white line is the mean.",
        ),
        Panel(
            "Distribution of halting iterations",
            _distribution(result),
            f"The most frequent halting iteration is {mode} ({percent(float(result.share[mode]))} of the "
            f"positions); the mean ponder cost is {result.cost:.2f} iterations, and "
            f"{percent(result.not_halted)} of the positions had not halted when the loop ended.",
            "Bars count all examples and positions. The ponder cost is the number of iterations used plus "
            "the weight of the last one.",
        ),
    ]
    if result.difficulty is not None and len(result.levels) > 1:
        rows.append(_difficulty_panel(result))
    if len(result.by_example) > 1:
        low, high = float(result.by_example.min()), float(result.by_example.max())
        rows.append(
            Panel(
                "Mean halting iteration by example",
                _examples(result),
                f"The mean halting iteration of an example's answers ranges from {low:.1f} to {high:.1f}.",
                "Bars count examples by the mean over their answers. A single bar means that all examples "
                "use the same number of iterations.",
            )
        )
    return rows


def _difficulty_panel(result: HaltingResult) -> Panel:
    low, high, unit = result.mean_by_level[0], result.mean_by_level[-1], result.difficulty or ""
    by_difficulty = ""
    if not math.isnan(result.difficulty_correlation):
        by_difficulty = f"; the rank correlation is {number(result.difficulty_correlation, 2)}"
    return Panel(
        "Halting iteration by difficulty",
        _difficulty(result),
        f"The mean halting iteration goes from {low:.1f} at {level(float(result.levels[0]), unit)} to "
        f"{high:.1f} at {level(float(result.levels[-1]), unit)}{by_difficulty}.",
        "Each column is a difficulty and shows the fraction of its answered positions that halt in each "
        "iteration; iterations run downwards. The white line is the mean; larger points have more examples.",
    )


def _distribution(result: HaltingResult) -> "go.Figure":
    figure = style.empty("Halting iterations", "halting iteration", "fraction of positions", 300)
    figure.add_bar(
        y=result.share.tolist(),
        marker={"color": style.BLUE},
        hovertemplate="iteration %{x}: %{y:.2%}<extra></extra>",
    )
    return figure


def _difficulty(result: HaltingResult) -> "go.Figure":
    name = style.label(result.difficulty)
    figure = position_heatmap(
        [[round(v, 4) for v in row] for row in result.by_level.T.tolist()],
        "Halting, by difficulty and iteration",
        "halting iteration",
        "fraction of positions",
        hover=f"{name} %{{x}} halts in iteration %{{y}}: %{{z:.1%}}",
        zmin=0,
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
    figure = style.empty("Halting by example", "mean halting iteration of an example", "examples", 300)
    figure.add_histogram(
        x=result.by_example.tolist(),
        nbinsx=24,
        marker={"color": style.BLUE},
        hovertemplate="%{x}: %{y} examples<extra></extra>",
    )
    return figure
