"""Figures of causes: the panels and the headline that a report shows."""

from typing import Any

import torch

from loopscope.common.text import number, percent
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .measure import CARRIES, Causes, carried_map


def headline(result: Causes) -> tuple[str, str]:
    """The finding as a tile."""
    carrying = [
        k for k, share in zip(result.iterations, result.whole.tolist(), strict=True) if share >= CARRIES
    ]
    return (
        f"k ≥ {carrying[0]}" if carrying else "none",
        f"states that carry the answer. {result.verdict.sentence}",
    )


def draw(result: Causes) -> Any:
    """How much of the other answer each state brings along, by iteration."""
    counted = "iterations run before the state is written"
    figure = style.empty(
        "How much of another example's answer its state brings along", counted, "fraction of the way", 380
    )
    for name, values, colour in (
        ("whole state", result.whole, style.BLUE),
        ("best position alone", result.best, style.ORANGE),
    ):
        figure.add_scatter(
            x=list(result.iterations), y=[None if v != v else round(v, 4) for v in values.tolist()], name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2}, hovertemplate=f"{name}, after %{{x}}: "
                                                              "%{y:.2f}<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(
        range=[min(-0.05, float(result.best.min())), max(1.05, float(result.whole.nan_to_num().max()) + 0.05)]
    )
    return figure


def panels(result: Causes) -> list[Panel]:
    """The finding as a report shows it."""
    last = len(result.iterations) - 1
    many = result.spread[torch.isfinite(result.spread)]
    over = (
        f" Where they have an effect, it is spread over {number(float(many.median()), 2)} of "
        f"{len(result.positions)} positions."
        if len(many)
        else ""
    )
    return [
        Panel(
            "What another example's state brings along",
            draw(result),
            f"{result.verdict.sentence} Written after {result.iterations[last // 2]} of {result.last} "
            "iterations the whole state brings "
            f"{percent(float(result.whole[last // 2].clamp(0, 1)))} of the other answer, the best position "
            f"alone {percent(float(result.best[last // 2].clamp(0, 1)))}.",
            "Each point is a pass of its own: the state of another example is written there, and all that "
            "follows is computed anew. "
            f"0 leaves the answer, 1 is the other example's; judged by {result.answer_positions}, means over "
            f"{result.examples} examples.",
        ),
        Panel(
            "Position by position",
            carried_map(result),
            f"The strongest single position is "
            f"{result.positions[int(result.carried.abs().nan_to_num().amax(0).argmax())]}.{over}",
            "Each cell is one write: one position, after so many iterations (downwards). Blue moves the "
            "answer towards the other example's, red away from it. What the read-out itself reads, after "
            "the last iteration, may lie beyond the colours.",
        ),
    ]
