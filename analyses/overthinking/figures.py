"""Figures of overthinking: the panels and the headline that a report shows."""

from typing import Any

from torch import Tensor

from loopscope.common.text import number, percent
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .measure import Overthinking


def headline(result: Overthinking) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    lost = result.drop.lost
    return (
        f"{lost} of {result.items}",
        f"answers right at the best iteration are lost by the end. {result.verdict.sentence}",
    )


def draw(result: Overthinking) -> Any:
    """Accuracy by iteration, over all and at some difficulties."""
    return _curves(
        result,
        result.accuracy,
        result.by_level,
        "Accuracy, far beyond the model's own depth",
        quantity="fraction right",
    )


def _curves(result: Overthinking, whole: Tensor, by_level: Tensor, title: str, *, quantity: str) -> Any:
    figure = style.empty(title, "iterations run", quantity, 400)
    step = max(1, -(-(len(result.levels) - 1) // (len(style.COLOURS) - 2)))
    few = list(range(0, len(result.levels), step)) if len(result.levels) > 1 else []
    for place, colour in zip(few, style.COLOURS[1:], strict=False):
        figure.add_scatter(
            y=[round(v, 4) for v in by_level[place].tolist()], line={"color": colour, "width": 1.75},
            name=f"{style.label(result.difficulty)} {result.levels[place]:g}",
        )  # fmt: skip
    figure.add_scatter(
        y=[round(v, 4) for v in whole.tolist()], name="all", line={"color": style.BLUE, "width": 3.5}
    )
    figure.add_vline(x=result.depth, line={"color": style.GREY, "width": 1, "dash": "dot"})
    if quantity.startswith("fraction"):
        figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def panels(result: Overthinking) -> list[Panel]:
    """The finding as a report shows it."""
    d, best = result.drop, int(result.margin[1:].argmax()) + 1
    return [
        Panel(
            "Are answers still right if it goes on?",
            draw(result),
            f"{result.verdict.sentence} At the best iteration ({d.before:g}) {percent(d.first)} are right, "
            f"at the end {percent(d.last)}: {d.lost} lost, {d.gained} gained.",
            "The dotted line marks the model's own depth. The best iteration is chosen on one half of the "
            "examples and counted on the other.",
        ),
        Panel(
            "How clearly are they right?",
            _curves(
                result,
                result.margin,
                result.margin_by_level,
                "Logit margin of the right answer",
                quantity="logits",
            ),
            f"The margin is largest after {best} iterations ({number(float(result.margin[best]))}) and "
            f"{number(float(result.margin[-1]))} at the end.",
            "The logit of the right answer less the largest other, in the mean: above 0 where it is right. "
            "It can fall long before an answer turns.",
        ),
        Panel(
            "When do answers turn?",
            _turns(result),
            f"{int(result.to_wrong[1:].sum())} times an answer turns from right to wrong and "
            f"{int(result.to_right[1:].sum())} times back, {result.late_flips} answers flip after iteration "
            f"{result.depth}.",
            "Bars count answers that change from one iteration to the next: upwards those that become "
            "right, downwards those that become wrong. While answers form some are right by chance for a "
            "while.",
        ),
    ]


def _turns(result: Overthinking) -> Any:
    figure = style.empty("Answers that turn", "iterations run", "answers", 340)
    k = list(range(2, len(result.to_wrong) + 1))
    for values, name, colour in (
        (result.to_right[1:], "wrong to right", style.GREEN),
        (-result.to_wrong[1:], "right to wrong", style.RED),
    ):
        figure.add_bar(x=k, y=values.tolist(), name=name, marker={"color": colour})
    figure.update_layout(barmode="relative")
    figure.add_vline(x=result.depth, line={"color": style.GREY, "width": 1, "dash": "dot"})
    return figure
