"""Accuracy and margin beyond the model's own depth, and flips by iteration."""

from typing import TYPE_CHECKING

from torch import Tensor

from loopscope.common.text import level, number, plural
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .result import OverthinkingResult, OverthinkingVerdict

if TYPE_CHECKING:
    import plotly.graph_objects as go


def headline(result: OverthinkingResult) -> tuple[str, str]:
    """The result in one number, and what the number is."""
    if result.verdict is OverthinkingVerdict.ended:
        return "none possible", "overthinking: the loop ends by itself"
    change, low = result.growth, result.growth.before[0]
    return (
        f"{change.text.split(' (')[0]}",
        f"change of accuracy from {low} to {plural(len(result.accuracy) - 1, 'iteration')}",
    )


def draw(result: OverthinkingResult) -> "go.Figure":
    """Accuracy by iteration, overall and at some difficulties."""
    return _curves(
        result,
        result.accuracy,
        result.by_level,
        "Accuracy beyond the model's own depth",
        quantity="answers correct",
    )


def _curves(
    result: OverthinkingResult, whole: Tensor, by_level: Tensor, title: str, *, quantity: str
) -> "go.Figure":
    figure = style.empty(title, "iterations run (k)", quantity, 400)
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
    figure.add_vline(x=result.marked, line={"color": style.GREY, "width": 1, "dash": "dot"})
    if quantity == "answers correct":
        figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def panels(result: OverthinkingResult) -> list[Panel]:
    """The panels of a report."""
    best = int(result.margin[1:].argmax()) + 1
    margins = _curves(
        result, result.margin, result.margin_by_level, "Logit margin of the right answer", quantity="logits"
    )
    return [
        Panel(
            "Accuracy beyond the model's own depth",
            draw(result),
            f"{result.growth_sentence()} {result.peak_sentence()}",
            f"{_line_sentence(result)} A best iteration that is chosen on the same examples looks better "
            "than it is, so it is also chosen on one half of them and used on the other.",
        ),
        Panel(
            "Logit margin by iteration",
            margins,
            f"The margin is largest after {plural(best, 'iteration')} "
            f"({number(float(result.margin[best]))}) and "
            f"{number(float(result.margin[-1]))} at the end.",
            "The logit of the right answer minus the largest other, on average: above 0 where it is right. "
            "It can fall long before an answer changes.",
        ),
        Panel(
            "Answer changes by iteration",
            _flips(result),
            f"{result.flips_sentence()} {plural(result.late_flips, 'change')} come beyond the model's own "
            "depth.",
            "Bars count answers that change from one iteration to the next, from the second iteration on: "
            "upwards to right, downwards to wrong. While answers form, some are right by chance for a few "
            "iterations.",
        ),
    ]


def _line_sentence(result: OverthinkingResult) -> str:
    if result.verdict is OverthinkingVerdict.ended:
        return "The dotted line marks where the loop had ended by itself."
    return (
        "The dotted line marks the model's own depth: from there to the end is the comparison of the verdict."
    )


def _flips(result: OverthinkingResult) -> "go.Figure":
    figure = style.empty("Answer changes", "iterations run (k)", "answers", 340)
    k = list(range(2, len(result.to_wrong) + 1))
    for values, name, colour in (
        (result.to_right[1:], "wrong to right", style.GREEN),
        (-result.to_wrong[1:], "right to wrong", style.RED),
    ):
        figure.add_bar(x=k, y=values.tolist(), name=name, marker={"color": colour})
    figure.update_layout(barmode="relative")
    figure.add_vline(x=result.marked, line={"color": style.GREY, "width": 1, "dash": "dot"})
    return figure
