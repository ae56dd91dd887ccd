"""Figures of activation patching: effects by iteration, and by iteration and position."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from loopscope.common.text import number
from loopscope.patching.figures import ITERATION, ITERATIONS_RUN, effect_map
from loopscope.plots import style
from loopscope.plots.bands import add_band, with_gaps
from loopscope.plots.panels import Panel

from .result import CausesResult

if TYPE_CHECKING:
    import plotly.graph_objects as go


def headline(result: CausesResult) -> tuple[str, str]:
    """A short value for a tile, and its caption."""
    trivial = result.only_state  # patching the whole state has its whole effect by construction
    value = result.best_at_middle if trivial else result.whole_at_middle
    return (
        value.split(" (")[0],
        f"normalised effect of patching {'the best single position' if trivial else 'the whole state'}, "
        f"{result.counter} = {result.middle} of {result.depth} iterations",
    )


def draw(result: CausesResult) -> "go.Figure":
    """The normalised effect of patching the whole state, by iteration, and of the best single
    position, with 95 % intervals."""
    figure = style.empty("Activation patching", _axis(result), "normalised effect", 380)
    add_band(
        figure, result.iterations, result.whole_interval[:, 0], result.whole_interval[:, 1], colour=style.BLUE
    )
    whole = result.whole_state, result.whole_interval
    best = result.best_position, result.best_interval
    for name, xs, (values, intervals), colour, whiskers in (
        ("whole state", result.iterations, whole, style.BLUE, False),
        ("best single position", result.position_iterations, best, style.ORANGE, True),
    ):
        figure.add_scatter(
            x=list(xs),
            y=with_gaps(values),
            error_y=_whiskers(values, intervals) if whiskers else None,
            customdata=[with_gaps(pair) for pair in intervals],
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2},
            hovertemplate=f"{name}, {result.counter} = %{{x}}: %{{y:.2f}} (%{{customdata[0]:.2f}} to "
            "%{customdata[1]:.2f})<extra></extra>",
        )
    every = torch.cat([result.whole_interval.flatten(), result.best_interval.flatten(), whole[0], best[0]])
    every = every[every.isfinite()]
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
    figure.update_yaxes(range=[min(0.0, low) - 0.05, max(1.0, high) + 0.05])
    return figure


def draw_positions(result: CausesResult) -> "go.Figure":
    """The normalised effect of every single position, by iteration.

    Colours end at the largest effect before the last state, since the read-out reads the last state
    directly and may dwarf all others.
    """
    before = result.effect[[k < result.depth for k in result.position_iterations]]
    return effect_map(
        result.effect,
        result.position_iterations,
        result.positions,
        "Activation patching of single positions",
        x="position",
        y=_axis(result),
        quantity="normalised effect",
        most=max(0.1, float(before.abs().nan_to_num().max())) if len(before) else None,
    )


def panels(result: CausesResult) -> list[Panel]:
    """The panels of a report."""
    k, middle = result.counter, result.middle
    row = result.effect[result.position_iterations.index(middle)].nan_to_num(-torch.inf)
    strongest, size = result.positions[int(row.argmax())], float(row.max())
    spread = float(result.effective_positions[result.position_iterations.index(middle)])
    return [
        Panel(
            "Activation patching by iteration",
            draw(result),
            f"{result.sentence} At {k} = {middle} the normalised effect of the whole state is "
            f"{result.whole_at_middle}, of the best single position {result.best_at_middle}."
            f"{' ' * bool(result.remarks())}{result.remarks()}",
            "Each point is one patch: the state of another example (the donor) is patched in, and the rest "
            "of the pass is recomputed. 0: the answer doesn't change; 1: it becomes the donor's. Best single "
            f"position: of each example, {result.choice}. Judged by {result.answers}; means over "
            f"{result.examples} examples with 95 % intervals"
            + (
                f"; {result.without_donor} without a donor of another answer are left out"
                if result.without_donor
                else ""
            )
            + (f". Whole state: all positions of {' and '.join(result.tensors)}." if result.tensors else "."),
        ),
        Panel(
            "Activation patching of single positions",
            draw_positions(result),
            f"At {k} = {middle} the position with the largest mean effect is {strongest}, with "
            f"{number(size, 2)}"
            + (
                f"; the effects are spread over {number(spread, 2)} of {len(result.positions)} positions "
                "(participation ratio)."
                if spread == spread
                else "."
            ),
            f"Each cell is one patch: one position, {k} downwards; means over examples. Blue moves the "
            "answer towards the donor's, red away from it. The last state, which the read-out reads "
            "directly, may lie beyond the colour scale.",
        ),
    ]


def _axis(result: CausesResult) -> str:
    return ITERATIONS_RUN if result.counter == "k" else ITERATION


def _whiskers(values: Tensor, intervals: Tensor) -> dict[str, object]:
    return {
        "array": with_gaps(intervals[:, 1] - values),
        "arrayminus": with_gaps(values - intervals[:, 0]),
        "thickness": 1,
    }
