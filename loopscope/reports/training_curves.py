"""The section on a training: accuracy, loss and the norm of the weights by optimiser step."""

from ..common.text import percent, plural
from ..plots import style
from ..plots.panels import Panel
from ..training.history import History
from .section import Section, Tile


def section(history: History) -> Section:
    """The curves of every set of examples, after the last iteration."""
    last = {name: float(history.accuracy(name)[-1, -1]) for name in history.sets}
    score = history.task.score
    values = ", ".join(f"{name} {percent(value)}" for name, value in last.items())
    text = f"After {plural(history.steps[-1], 'optimiser step')}, {score} is: {values}."
    data = {
        "steps": history.steps,
        "accuracy": {name: history.accuracy(name) for name in history.sets},
        "loss": {name: history.loss(name) for name in history.sets},
        "norm": history.norm,
    }
    tiles = [
        Tile(percent(value), f"{score} on the set {name} after {history.steps[-1]:,} steps")
        for name, value in list(last.items())[:2]
    ]
    panels = [_curves(history, "accuracy", score), _curves(history, "loss", "loss")]
    return Section("training", "Training", 1, panels, text=text, tiles=tiles, group="training", data=data)


def _curves(history: History, what: str, quantity: str) -> Panel:
    figure = style.over_steps(f"{quantity.capitalize()} during training", quantity)
    by_set = history.accuracy if what == "accuracy" else history.loss
    curves = {name: by_set(name)[:, -1] for name in history.sets}
    for (name, curve), colour in zip(curves.items(), style.COLOURS, strict=False):
        style.step_line(figure, history.steps, curve, name, colour=colour, hover="%{y:.4g}")
    ends = ", ".join(f"{name} {float(curve[-1]):.3g}" for name, curve in curves.items())
    return Panel(
        f"{quantity.capitalize()} during training",
        figure,
        f"At the last step: {ends}.",
        f"There is one line for each set of examples, measured after "
        f"{plural(history.iterations, 'iteration')}. The axis of steps is logarithmic.",
    )
