"""Figures of halting: the panels and the headline that a report shows."""

from typing import Any

from loopscope.common.text import number, percent
from loopscope.plots import style
from loopscope.plots.heatmaps import map_of
from loopscope.plots.panels import Panel

from .measure import HaltingTimes


def headline(result: HaltingTimes) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    return f"{result.cost:.1f} iterations", f"mean ponder cost. {result.verdict.sentence}"


def draw(result: HaltingTimes) -> Any:
    """Where and when positions halt."""
    figure = map_of(
        [[round(v, 4) for v in row] for row in result.by_position.T.tolist()],
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


def panels(result: HaltingTimes) -> list[Panel]:
    """The finding as a report shows it."""
    means = result.mean_by_position[result.answered]
    mode = int(result.share.argmax())
    rows = [
        Panel(
            "When each position halts",
            draw(result),
            f"{result.verdict.sentence} The mean halting iteration goes from {means.min():.1f} to "
            f"{means.max():.1f} over the positions that answer; its rank correlation with the position is "
            f"{number(result.correlation, 3)}.",
            "Each column is one position, and shows which fraction of the examples halts there in which "
            "iteration; time runs downwards. The white line is the mean.",
        ),
        Panel(
            "How many iterations are used",
            _shares(result),
            f"More positions halt in iteration {mode} than in any other "
            f"({percent(float(result.share[mode]))}); the mean ponder cost is {result.cost:.2f} iterations, "
            f"and {percent(result.not_halted)} of the positions had not halted when the loop ended.",
            "Bars count all examples and positions. The ponder cost is the number of iterations used and "
            "the weight of the last of them.",
        ),
    ]
    if result.difficulty is not None and len(result.levels) > 1:
        low, high = result.mean_by_level[0], result.mean_by_level[-1]
        seen = (
            "The rank correlation of halting with difficulty is "
            f"{number(result.difficulty_correlation, 2)}; the mean goes from {low:.1f} at "
            f"{result.difficulty} {result.levels[0]:g} to {high:.1f} at {result.levels[-1]:g}."
        )
        reading = (
            "Each column is one difficulty, and shows which fraction of its answered positions halts in "
            "which iteration; time runs downwards. The white line is the mean, on large points where many "
            "examples have this difficulty."
        )
        rows.append(Panel("Does it think longer where it is harder?", _difficulty(result), seen, reading))
    if len(result.by_example) > 1:
        few, many = float(result.by_example.min()), float(result.by_example.max())
        rows.append(
            Panel(
                "How different the examples are",
                _examples(result),
                f"The mean halting iteration of an example's answers goes from {few:.1f} to {many:.1f}.",
                "Bars count examples by the mean over their answers. One bar means that every example is "
                "given as long.",
            )
        )
    return rows


def _shares(result: HaltingTimes) -> Any:
    figure = style.empty("Halting iterations", "halting iteration", "fraction of positions", 300)
    figure.add_bar(
        y=result.share.tolist(),
        marker={"color": style.BLUE},
        hovertemplate="iteration %{x}: %{y:.2%}<extra></extra>",
    )
    return figure


def _difficulty(result: HaltingTimes) -> Any:
    name = style.label(result.difficulty)
    figure = map_of(
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


def _examples(result: HaltingTimes) -> Any:
    figure = style.empty("Halting by example", "mean halting iteration of an example", "examples", 300)
    figure.add_histogram(
        x=result.by_example.tolist(),
        nbinsx=24,
        marker={"color": style.BLUE},
        hovertemplate="%{x}: %{y} examples<extra></extra>",
    )
    return figure
