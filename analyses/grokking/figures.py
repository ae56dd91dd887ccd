"""Figures of grokking: accuracy, losses and milestones over training."""

import math
from typing import TYPE_CHECKING

from loopscope.common.text import percent
from loopscope.plots import style
from loopscope.plots.panels import Panel
from loopscope.plots.style import COLOURS

from .fourier_figures import fourier_panels
from .measure import GrokkingResult
from .verdict import DELAY, GrokkingVerdict

if TYPE_CHECKING:
    import plotly.graph_objects as go


def headline(result: GrokkingResult) -> tuple[str, str]:
    """A short value for a tile, and its caption."""
    delayed = result.verdict in (GrokkingVerdict.grokked, GrokkingVerdict.systematic)
    if result.delay is not None and delayed:
        known = [e for e in result.evidence.estimates if e.name == DELAY and not math.isnan(e.low)]
        interval = f" (95 % interval {known[0].low:,.0f} to {known[0].high:,.0f})" if known else ""
        return f"{result.delay:,.0f} steps", f"from memorisation to generalisation{interval}"
    return result.verdict.name, "how learning of the training examples and of others relate"


def draw(result: GrokkingResult) -> "go.Figure":
    """Accuracy over the steps of training, by set of examples, after the last iteration."""
    figure = style.over_steps(f"Accuracy over training of {result.entry}", "accuracy")
    for colour, (name, values) in zip(COLOURS, result.accuracy.items(), strict=False):
        style.step_line(figure, result.steps, values[:, -1], name, colour=colour, hover="%{y:.1%} correct")
        date = result.transitions[name]
        if date is not None:
            figure.add_vrect(
                x0=max(date.low, 1), x1=max(date.high, 1), fillcolor=colour, opacity=0.18, line_width=0
            )
            figure.add_vline(x=max(date.step, 1), line={"color": colour, "width": 1, "dash": "dot"})
    figure.add_hline(y=result.level, line={"color": style.GREY, "width": 1, "dash": "dot"})
    figure.update_yaxes(range=[-0.02, 1.02])
    return figure


def panels(result: GrokkingResult) -> list[Panel]:
    """The panels of a report."""
    final = {name: percent(float(values[-1, -1])) for name, values in result.accuracy.items()}
    logarithmic = "Both axes are logarithmic."
    out = [
        Panel(
            "Accuracy over training",
            draw(result),
            f"Accuracy at the end: {', '.join(f'{name} {value}' for name, value in final.items())}.",
            "A dotted vertical line is where a set's accuracy reaches the level (horizontal) for good, the "
            "band its 90 % interval.",
        ),
        Panel(
            "Losses over training",
            _losses(result),
            " ".join(result.set_sentences),
            f"{logarithmic} Dashed lines are measured at the checkpoints: the loss of only the Fourier "
            "components of a + b at the key frequencies (restricted), and that of the training examples "
            "without them (excluded)."
            if result.progress.fourier is not None
            else logarithmic,
        ),
        Panel(
            "Test accuracy by iteration",
            _by_iteration(result),
            _iteration_sentence(result),
            "Each row is the answer as if the loop had stopped after k iterations; each column is one "
            "evaluation during training.",
        ),
    ]
    if result.milestones:
        first, last = result.milestones[0], result.milestones[-1]
        out.append(
            Panel(
                "Milestones",
                _milestones(result),
                f"First: {first.event}, at step {first.date.step:,.0f}. Last: {last.event}, at step "
                f"{last.date.step:,.0f}.",
                "A point is the step of the event, the line its 90 % interval. Pointing at it shows the "
                "looks before and after it.",
            )
        )
    return out + fourier_panels(result)


def _losses(result: GrokkingResult) -> "go.Figure":
    figure = style.over_steps("Loss", "loss (nats per answer)")
    hover = "%{y:.3g} nats"
    for colour, (name, values) in zip(COLOURS, result.loss.items(), strict=False):
        style.step_line(figure, result.steps, values[:, -1].clamp(min=1e-9), name, colour=colour, hover=hover)
    style.decades(figure)
    fourier = result.progress.fourier
    if fourier is not None:
        for name, values, colour in (
            ("restricted", fourier.restricted[:, -1].clamp(min=1e-9), style.GREEN),
            ("excluded", fourier.excluded[:, -1], style.PURPLE),
        ):
            style.step_line(
                figure, result.progress.steps, values, name, colour=colour, hover=hover, dash="dash"
            )
        figure.add_hline(y=fourier.chance, line={"color": style.GREY, "width": 1, "dash": "dot"})
    return figure


def _by_iteration(result: GrokkingResult) -> "go.Figure":
    values = result.accuracy["test"]
    figure = style.over_steps("Accuracy on test examples, by iteration", "iterations run (k)", 260)
    figure.add_heatmap(
        x=[max(step, 1) for step in result.steps],
        y=list(range(values.shape[1])),
        z=values.T.tolist(),
        colorscale=style.SCALE,
        zmin=0,
        zmax=1,
        colorbar=style.colourbar("accuracy"),
        hovertemplate="step %{x}, after %{y} iterations: %{z:.1%}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", dtick=1, showgrid=False)
    return figure


def _iteration_sentence(result: GrokkingResult) -> str:
    final = result.accuracy["test"][-1]
    accuracy = ", ".join(f"{percent(float(value))} after {k}" for k, value in enumerate(final))
    return f"Accuracy on test examples at the end of training, by iterations run: {accuracy}."


def _milestones(result: GrokkingResult) -> "go.Figure":
    milestones = result.milestones[::-1]
    figure = style.over_steps("Milestones", "", 90 + 34 * len(milestones))
    dates = [milestone.date for milestone in milestones]
    figure.add_scatter(
        x=[max(date.step, 1) for date in dates],
        y=[style.label(milestone.event) for milestone in milestones],
        mode="markers",
        marker={"size": 9, "color": style.BLUE},
        error_x={
            "type": "data",
            "symmetric": False,
            "color": style.SKY,
            "array": [max(date.high - date.step, 0) for date in dates],
            "arrayminus": [max(date.step - max(date.low, 1), 0) for date in dates],
        },
        customdata=[milestone.looks for milestone in milestones],
        hovertemplate="%{y}: step %{x:,.0f}, between the looks at %{customdata[0]:,} and "
        "%{customdata[1]:,}<extra></extra>",
    )
    # milestones may lie within a factor of ten
    ticks = [mark * 10**power for power in range(8) for mark in (1, 2, 5)]
    figure.update_xaxes(tickvals=ticks, tickformat=",")
    return figure
