"""Figures of depth use: iterations by difficulty, and integration windows."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.text import number, percent, plural
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .integration_window import IntegrationWindows
from .result import DEPTH_NAMES, Depth, DepthUseResult, DepthUseVerdict

if TYPE_CHECKING:
    import plotly.graph_objects as go

DIFFICULTY_GROUPS = 3
"""Groups of difficulties in the figure of integration windows."""


def headline(result: DepthUseResult) -> tuple[str, str]:
    """A short value for a tile, and its caption."""
    if result.verdict is DepthUseVerdict.constant:
        return "-", "all final answers are the same token"
    settled = result.depths[0]
    slope = settled.slope.slope
    if slope != slope:
        return "no slope", f"of iterations to settle over difficulty ({result.unit})"
    if result.verdict is DepthUseVerdict.same:
        between = number(abs(float(settled.mean_by_level[-1] - settled.mean_by_level[0])), 2)
        return between, f"iterations to settle between the easiest and the hardest ({result.unit})"
    if result.verdict is DepthUseVerdict.irregular:
        share = percent(settled.order[0])
        return (
            share,
            f"of the differences in settling between difficulties are in their order ({result.unit})",
        )
    when = "earlier" if slope < 0 else "later"
    return number(abs(slope), 2), f"iterations {when} to settle per unit of difficulty ({result.unit})"


def draw(result: DepthUseResult) -> "go.Figure":
    """Mean depth at each difficulty, with intervals."""
    figure = style.empty("Iterations until answers settle", result.unit, "iterations run (k)", 380)
    x = result.levels.tolist()
    # windows are of inputs, and have a figure of their own
    depths = [depth for depth in result.depths if depth.name != "window"]
    for depth, colour in zip(depths, style.COLOURS, strict=False):
        width, dash = 3 if depth.name == "settled" else 2, "dash" if depth.name == "correct" else "solid"
        figure.add_scatter(
            x=x,
            y=[None if v != v else round(v, 4) for v in depth.mean_by_level.tolist()],
            name=DEPTH_NAMES[depth.name].lower(),
            mode="lines+markers",
            line={"color": colour, "width": width, "dash": dash},
            error_y={**_bars(depth, result.iterations), "thickness": 1},
            customdata=[
                int(((result.difficulty == x) & ~depth.iterations.isnan()).sum()) for x in result.levels
            ],
            hovertemplate="%{y:.2f} (%{customdata} items)",
        )
    figure.update_yaxes(rangemode="tozero")
    if len(x) <= 12 and all(level == round(level) for level in x):
        figure.update_xaxes(dtick=1)
    return figure


def _bars(depth: Depth, most: int) -> dict[str, list[float]]:
    """Intervals of the means, none of which reaches below 0 or beyond the run's iterations."""
    half, mean = depth.half_width.nan_to_num(0), depth.mean_by_level.nan_to_num(0)
    return {
        "array": torch.minimum(half, most - mean).clamp(min=0).tolist(),
        "arrayminus": torch.minimum(half, mean).tolist(),
    }


def _counts(result: DepthUseResult) -> str:
    """How many items there are of each difficulty, in words."""
    counts = [int((result.difficulty == x).sum()) for x in result.levels]
    if min(counts) == max(counts):
        return f"Each difficulty has {plural(counts[0], 'item')}."
    if len(counts) > 8:
        return f"Each difficulty has {min(counts)} to {max(counts)} items."
    each = ", ".join(f"{n} at {float(x):g}" for x, n in zip(result.levels, counts, strict=True))
    return f"Items at each difficulty: {each}."


def draw_windows(windows: IntegrationWindows, difficulty: Float[Tensor, " item"], unit: str) -> "go.Figure":
    """Fraction of the relevant inputs whose replacement changes the answer, by iteration and
    difficulty; dotted with the state alone replaced."""
    title = "Dependence of the answer on an input"
    figure = style.empty(title, "iterations run (k) before it is replaced", "answers that change", 380)
    level = difficulty[windows.item]
    for name, rows, colour in _difficulty_groups(level):
        label = f"{name} ({style.label(unit)}), {plural(int(rows.sum()), 'input')}"
        line = {"color": colour, "width": 1.75}
        _add_fraction(figure, windows.iterations, windows.changes[rows], label, line=line)
    for values, name, dash in (
        (windows.changes, f"all {plural(len(level), 'input')}", "solid"),
        (windows.state_changes, "all, only the state replaced", "dot"),
    ):
        line = {"color": style.BLUE, "width": 3, "dash": dash}
        _add_fraction(figure, windows.iterations, values, name, line=line)
    figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def _add_fraction(
    figure: "go.Figure", iterations: tuple[int, ...], changes: Tensor, name: str, *, line: dict[str, object]
) -> None:
    figure.add_scatter(
        x=list(iterations),
        y=changes.double().mean(0).tolist(),
        name=name,
        mode="lines+markers",
        line=line,
        hovertemplate="replaced after %{x}: %{y:.0%}",
    )


def _difficulty_groups(level: Tensor) -> list[tuple[str, Tensor, str]]:
    """(range, inputs, colour) of groups of about as many inputs each; none if there is only one
    difficulty."""
    quantiles = torch.linspace(0, 1, DIFFICULTY_GROUPS + 1, dtype=level.dtype)
    bounds = level.quantile(quantiles).unique().tolist()
    groups = []
    for first, last, colour in zip(bounds, bounds[1:], style.COLOURS[1:], strict=False):
        rows = (level >= first) & ((level < last) if last != bounds[-1] else (level <= last))
        if len(bounds) < 3 or not bool(rows.any()):
            continue
        values = sorted({f"{value:g}": value for value in level[rows].tolist()}.items(), key=lambda v: v[1])
        name = values[0][0] if len(values) == 1 else f"{values[0][0]} to {values[-1][0]}"
        groups.append((name, rows, colour))
    return groups


def panels(result: DepthUseResult) -> list[Panel]:
    """The panels of a report."""
    out = [
        Panel(
            "Iterations until the answer settles",
            draw(result),
            " ".join(depth.sentence for depth in result.depths if depth.name != "window"),
            f"Means with 95 % intervals; no bar where all items of a difficulty agree. {_counts(result)} An "
            "answer has settled from the iteration on after which the read-out "
            "no longer changes, correct or not. Dashed: from which on it stays correct.",
        )
    ]
    if result.windows is not None and len(result.windows.item):
        out.append(
            Panel(
                "Integration window of an input",
                draw_windows(result.windows, result.difficulty, result.unit),
                result.windows.sentence,
                "Each point replaces one input after k iterations and runs the loop to its end. Where a "
                "curve falls to 0, the input has been integrated, or too few iterations are left for the "
                "answer to change.",
            )
        )
    return out
