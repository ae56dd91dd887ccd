"""Accuracy and margin beyond the model's own depth, and flips by iteration."""

from typing import TYPE_CHECKING

from torch import Tensor

from loopscope.common.text import level, number, percent
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .measure import OverthinkingResult

if TYPE_CHECKING:
    import plotly.graph_objects as go


def headline(result: OverthinkingResult) -> tuple[str, str]:
    """The result in one number, and what the number is."""
    lost = result.drop.lost
    return (
        f"{lost} of {result.items}",
        f"answers right at the best iteration and wrong at the end. {result.sentence}",
    )


def draw(result: OverthinkingResult) -> "go.Figure":
    """Accuracy by iteration, overall and at some difficulties."""
    return _curves(
        result,
        result.accuracy,
        result.by_level,
        "Accuracy beyond the model's own depth",
        quantity="fraction right",
    )


def _curves(
    result: OverthinkingResult, whole: Tensor, by_level: Tensor, title: str, *, quantity: str
) -> "go.Figure":
    figure = style.empty(title, "iterations", quantity, 400)
    step = max(1, -(-(len(result.levels) - 1) // (len(style.COLOURS) - 2)))
    few = list(range(0, len(result.levels), step)) if len(result.levels) > 1 else []
    for i, colour in zip(few, style.COLOURS[1:], strict=False):
        figure.add_scatter(
            y=[round(v, 4) for v in by_level[i].tolist()],
            line={"color": colour, "width": 1.75},
            name=style.label(level(float(result.levels[i]), result.difficulty)),
        )
    figure.add_scatter(
        y=[round(v, 4) for v in whole.tolist()], name="all", line={"color": style.BLUE, "width": 3.5}
    )
    figure.add_vline(x=result.depth, line={"color": style.GREY, "width": 1, "dash": "dot"})
    if quantity.startswith("fraction"):
        figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def panels(result: OverthinkingResult) -> list[Panel]:
    """The panels of a report."""
    d, best = result.drop, int(result.margin[1:].argmax()) + 1
    margins = _curves(
        result, result.margin, result.margin_by_level, "Logit margin of the right answer", quantity="logits"
    )
    return [
        Panel(
            "Accuracy by iteration",
            draw(result),
            f"{result.sentence} At the best iteration ({d.before:g}) {percent(d.first)} are right, "
            f"at the end {percent(d.last)}: {d.lost} lost, {d.gained} gained.",
            "The dotted line marks the model's own depth. The best iteration is chosen on one half of the "
            "examples and evaluated on the other.",
        ),
        Panel(
            "Logit margin by iteration",
            margins,
            f"The margin is largest after {best} iterations ({number(float(result.margin[best]))}) and "
            f"{number(float(result.margin[-1]))} at the end.",
            "The logit of the right answer minus the largest other, on average: above 0 where it is right. "
            "It can fall long before an answer changes.",
        ),
        Panel(
            "Flips by iteration",
            _flips(result),
            f"{int(result.to_wrong[1:].sum())} times an answer changes from right to wrong and "
            f"{int(result.to_right[1:].sum())} times from wrong to right; {result.late_flips} answers flip "
            f"after iteration {result.depth}.",
            "Bars count answers that change from one iteration to the next: upwards to right, downwards to "
            "wrong. While answers form, some are right by chance for a few iterations.",
        ),
    ]


def _flips(result: OverthinkingResult) -> "go.Figure":
    figure = style.empty("Flips", "iterations", "answers", 340)
    k = list(range(2, len(result.to_wrong) + 1))
    for values, name, colour in (
        (result.to_right[1:], "wrong to right", style.GREEN),
        (-result.to_wrong[1:], "right to wrong", style.RED),
    ):
        figure.add_bar(x=k, y=values.tolist(), name=name, marker={"color": colour})
    figure.update_layout(barmode="relative")
    figure.add_vline(x=result.depth, line={"color": style.GREY, "width": 1, "dash": "dot"})
    return figure
