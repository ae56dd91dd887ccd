"""Figures of halting: the panels and the headline that a report shows."""

from typing import Any

from loopscope.common.text import number, percent
from loopscope.plots import style
from loopscope.plots.heatmaps import map_of
from loopscope.plots.panels import Panel

from .measure import HaltingTimes


def headline(found: HaltingTimes) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    return f"{found.cost:.1f} iterations", f"mean ponder cost. {found.verdict.sentence}"


def draw(found: HaltingTimes) -> Any:
    """Where and when positions halt."""
    figure = map_of(
        [[round(v, 4) for v in row] for row in found.by_position.T.tolist()],
        "Halting, by position and iteration",
        "halting iteration",
        "fraction of examples",
        hover="position %{x} halts in iteration %{y}: %{z:.1%}",
        zmin=0,
    )
    line = {"color": "white", "width": 2}
    mean = found.mean_by_position.tolist()
    figure.add_scatter(
        y=mean, mode="lines", name="mean", line=line, hovertemplate="mean %{y:.2f}<extra></extra>"
    )
    figure.update_layout(showlegend=False)
    return figure


def panels(found: HaltingTimes) -> list[Panel]:
    """The finding as a report shows it."""
    means = found.mean_by_position[found.answered]
    mode = int(found.share.argmax())
    rows = [
        Panel(
            "When each position halts",
            draw(found),
            f"{found.verdict.sentence} The mean halting iteration goes from {means.min():.1f} to {means.max():.1f} over the "
            f"positions that answer; its rank correlation with the position is {number(found.correlation, 3)}.",
            "Each column is one position, and shows which fraction of the examples halts there in which iteration; time runs "
            "downwards. The white line is the mean.",
        ),
        Panel(
            "How many iterations are used",
            _shares(found),
            f"More positions halt in iteration {mode} than in any other ({percent(float(found.share[mode]))}); the mean "
            f"ponder cost is {found.cost:.2f} iterations, and {percent(found.not_halted)} of the positions had not halted "
            "when the loop ended.",
            "Bars count all examples and positions. The ponder cost is the number of iterations used and the weight of the "
            "last of them.",
        ),
    ]
    if found.difficulty is not None and len(found.levels) > 1:
        low, high = found.mean_by_level[0], found.mean_by_level[-1]
        seen = (
            f"The rank correlation of halting with difficulty is {number(found.difficulty_correlation, 2)}; the mean goes from "
            f"{low:.1f} at {found.difficulty} {found.levels[0]:g} to {high:.1f} at {found.levels[-1]:g}."
        )
        reading = (
            "Each column is one difficulty, and shows which fraction of its answered positions halts in which iteration; time "
            "runs downwards. The white line is the mean, on large points where many examples have this difficulty."
        )
        rows.append(Panel("Does it think longer where it is harder?", _difficulty(found), seen, reading))
    if len(found.by_example) > 1:
        few, many = float(found.by_example.min()), float(found.by_example.max())
        rows.append(
            Panel(
                "How different the examples are",
                _examples(found),
                f"The mean halting iteration of an example's answers goes from {few:.1f} to {many:.1f}.",
                "Bars count examples by the mean over their answers. One bar means that every example is given as long.",
            )
        )
    return rows


def _shares(found: HaltingTimes) -> Any:
    figure = style.empty("Halting iterations", "halting iteration", "fraction of positions", 300)
    figure.add_bar(
        y=found.share.tolist(),
        marker={"color": style.BLUE},
        hovertemplate="iteration %{x}: %{y:.2%}<extra></extra>",
    )
    return figure


def _difficulty(found: HaltingTimes) -> Any:
    name = style.label(found.difficulty)
    figure = map_of(
        [[round(v, 4) for v in row] for row in found.by_level.T.tolist()],
        "Halting, by difficulty and iteration",
        "halting iteration",
        "fraction of positions",
        hover=f"{name} %{{x}} halts in iteration %{{y}}: %{{z:.1%}}",
        zmin=0,
        x=found.levels.tolist(),
    )
    size = (5 + 9 * (found.examples / found.examples.max()).sqrt()).tolist()
    figure.add_scatter(
        x=found.levels.tolist(), y=found.mean_by_level.tolist(), mode="lines+markers",
        marker={"size": size, "color": "white", "opacity": 1}, line={"color": "white", "width": 2},
        hovertemplate="mean %{y:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(showlegend=False, xaxis={"title": {"text": name}})
    return figure


def _examples(found: HaltingTimes) -> Any:
    figure = style.empty("Halting by example", "mean halting iteration of an example", "examples", 300)
    figure.add_histogram(
        x=found.by_example.tolist(),
        nbinsx=24,
        marker={"color": style.BLUE},
        hovertemplate="%{x}: %{y} examples<extra></extra>",
    )
    return figure
