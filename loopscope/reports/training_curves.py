"""The section on a training: accuracy, loss and the norm of the weights by optimiser step."""

from collections.abc import Mapping

from torch import Tensor

from ..common.evidence import interval_text
from ..common.text import percent, plural
from ..plots import style
from ..plots.panels import Panel
from ..tasks import Task
from ..training.history import History
from .section import Section, Tile

SHARE = Task.score
"""The score that is a share of answers."""


def section(history: History) -> Section:
    """The curves of every set of examples, after the last iteration."""
    score, steps = history.task.score, f"{history.steps[-1]:,} optimiser steps"
    accuracy = {name: history.accuracy(name) for name in history.sets}
    loss = {name: history.loss(name) for name in history.sets}
    last = {name: float(curve[-1, -1]) for name, curve in accuracy.items()}
    values = ", ".join(f"{_with_interval(history, name, value)} on {name}" for name, value in last.items())
    text = f"After {steps} the {score} on the sets of examples is {values}."
    shown = "test" if "test" in last else history.sets[0]
    reading = f"There is one line for each set, measured after {plural(history.iterations, 'iteration')}."
    panels = [
        _curves(history, _ends(accuracy), score, reading),
        _curves(history, _ends(loss), "loss", reading),
        _curves(history, {"all weights": history.norm}, "norm of the weights", "The norm is Euclidean."),
    ]
    if score == SHARE:
        panels[0].figure.update_yaxes(range=[-0.02, 1.02])
    return Section(
        "training",
        "Training",
        1,
        panels,
        text=text,
        tiles=[Tile(percent(last[shown]), f"{score} on the set {shown} after {steps}")],
        group="training",
        topic="training",
        claim=text,
        rank=0,
        data={"steps": history.steps, "accuracy": accuracy, "loss": loss, "norm": history.norm},
    )


def _with_interval(history: History, name: str, value: float) -> str:
    """The accuracy at the last look, with its interval where the examples are a sample."""
    count = history.sampled(name)
    if history.task.score != SHARE or count is None or not 0 <= value <= 1:
        return percent(value)
    return f"{percent(value)} (95 % interval {interval_text(round(value * count), count)})"


def _ends(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """After the last iteration."""
    return {name: curve[:, -1] for name, curve in values.items()}


def _curves(history: History, curves: Mapping[str, Tensor], quantity: str, reading: str) -> Panel:
    title = f"{quantity.capitalize()} during training"
    figure = style.over_steps(title, quantity)
    for (name, curve), colour in zip(curves.items(), style.COLOURS, strict=False):
        style.step_line(figure, history.steps, curve, name, colour=colour, hover="%{y:.4g}")
    ends = ", ".join(f"{name} {float(curve[-1]):.3g}" for name, curve in curves.items())
    return Panel(title, figure, f"At the last step: {ends}.", f"{reading} The axis of steps is logarithmic.")
