"""Figures of activation patching: effects by iteration, and by iteration and position."""

from typing import TYPE_CHECKING

import torch

from loopscope.common.text import number, percent
from loopscope.patching.figures import effect_map
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .measure import CausesResult

if TYPE_CHECKING:
    import plotly.graph_objects as go

BEFORE_PATCH = "iterations run before the patch"


def headline(result: CausesResult) -> tuple[str, str]:
    """A short value for a tile, and its caption."""
    effects = zip(result.iterations, result.whole_state.tolist(), strict=True)
    carrying = [k for k, effect in effects if effect >= result.effect_threshold]
    threshold = result.effect_threshold
    if carrying:
        return (
            f"k = {carrying[0]}",
            f"first whole-state patch with an effect of at least {threshold:g}. {result.sentence}",
        )
    return (
        "none",
        f"of the whole-state patches has an effect of at least {threshold:g}. {result.sentence}",
    )


def draw(result: CausesResult) -> "go.Figure":
    """The normalised effect of patching the whole state, and the best single position, by
    iteration."""
    figure = style.empty(
        "Effect of patching in another example's state", BEFORE_PATCH, "normalised effect", 380
    )
    for name, values, colour in (
        ("whole state", result.whole_state, style.BLUE),
        ("best single position", result.best_position, style.ORANGE),
    ):
        figure.add_scatter(
            x=list(result.iterations),
            y=[None if v != v else round(v, 4) for v in values.tolist()],
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2},
            hovertemplate=f"{name}, after %{{x}}: %{{y:.2f}}<extra></extra>",
        )
    low = min(-0.05, float(result.best_position.min()))
    high = max(1.05, float(result.whole_state.nan_to_num().max()) + 0.05)
    figure.update_yaxes(range=[low, high])
    return figure


def draw_positions(result: CausesResult) -> "go.Figure":
    """The normalised effect of every single position, by iteration.

    Colours end at the largest effect before the last state, since the read-out reads the last state
    directly and may dwarf all others.
    """
    before = result.effect[[k < result.depth for k in result.iterations]]
    return effect_map(
        result.effect,
        result.iterations,
        result.positions,
        "Effect of patching single positions",
        x="position patched",
        y=BEFORE_PATCH,
        quantity="normalised effect",
        most=max(0.1, float(before.abs().nan_to_num().max())) if len(before) else None,
    )


def panels(result: CausesResult) -> list[Panel]:
    """The panels of a report."""
    middle = (len(result.iterations) - 1) // 2
    counts = result.effective_positions[torch.isfinite(result.effective_positions)]
    spread = (
        f" Where effects are not zero, they are spread over {number(float(counts.median()), 2)} of "
        f"{len(result.positions)} positions (participation ratio, median)."
        if len(counts)
        else ""
    )
    strongest = result.positions[int(result.effect.abs().nan_to_num().amax(0).argmax())]
    return [
        Panel(
            "Effect of patching in another example's state",
            draw(result),
            f"{result.sentence} Patched after {result.iterations[middle]} of {result.depth} "
            f"iterations the whole state has {percent(float(result.whole_state[middle].clamp(0, 1)))} of the "
            "full effect, the best single position "
            f"{percent(float(result.best_position[middle].clamp(0, 1)))}.",
            "Each point is one pass: the state of another example is patched in at that iteration, and the "
            "rest is recomputed. 0: the answer doesn't change; 1: it becomes the other example's. Judged by "
            f"{result.answers}; means over {result.examples} examples.",
        ),
        Panel(
            "Effect of patching single positions",
            draw_positions(result),
            f"The strongest single position is {strongest}.{spread}",
            "Each cell is one patch: one position, after k iterations (downwards). Blue moves the answer "
            "towards the other example's, red away from it. The last state, which the read-out reads "
            "directly, may lie beyond the colour scale.",
        ),
    ]
