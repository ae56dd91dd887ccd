"""Figures of lens: the panels and the headline that a report shows."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from loopscope.common.text import number
from loopscope.lenses.token_table import table_panel
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .measure import Forming, Forms, _ends


def headline(result: Forms) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    if result.verdict is Forming.alike:
        return "-", result.verdict.sentence
    return (
        f"k = {int(result.settled[0].median())}",
        f"half of the answers no longer change. {result.verdict.sentence}",
    )


def draw(result: Forms) -> Any:
    """Mean rank of what is followed, by iteration, at the first site."""
    figure = style.empty(
        _title(result, "Where the tokens stand"), "iterations run", "mean rank, 1 = first", 380
    )
    for trace in _ranks(result, 0):
        figure.add_scatter(**trace)
    top = max([1.5, *(float(v[0].nan_to_num().max()) for v in result.rank.values())])
    figure.update_yaxes(type="log", range=[_log(top * 1.15), _log(0.93)], dtick="D1" if top < 12 else 1)
    return figure


def _ranks(result: Forms, site: int) -> list[dict[str, Any]]:
    styles = zip(
        (style.BLUE, style.ORANGE, *style.COLOURS[2:]), ("solid", "dash", "dot", "dashdot", "longdash", "dot"), strict=True
    )  # fmt: skip
    return [
        {
            "x": list(result.iterations),
            "y": _numbers(result.rank[name][site]),
            "customdata": _numbers(100 * result.first[name][site], 1),
            "name": style.label(name),
            "mode": "lines+markers",
            "line": {"color": colour, "width": 2.5, "dash": dash},
            "marker": {"size": 6},
            "hovertemplate": f"{style.label(name)}, iteration %{{x}}: mean rank %{{y}}, first in "
            "%{customdata} %"
            "<extra></extra>",
        }
        for name, (colour, dash) in zip(result.rank, styles, strict=False)
    ]


def _log(value: float) -> float:
    return float(torch.tensor(value).log10())


def _numbers(values: Tensor, digits: int = 4) -> list[float | None]:
    return [None if v != v else round(v, digits) for v in values.tolist()]


def _title(result: Forms, title: str) -> str:
    marks = "" if result.checked else " (unchecked lens)"
    return f"{title}, by the lens '{style.label(result.lens)}'{marks}"


def _curves(
    result: Forms, title: str, quantity: str, lines: Mapping[str, Tensor | None], *, share: bool
) -> Any:
    """Some means by iteration, at the first site."""
    figure = style.empty(_title(result, title), "iterations run", quantity, 340)
    for (name, values), colour, dash in zip(
        lines.items(), style.COLOURS, ("solid", "dash", "dot"), strict=False
    ):
        if values is None:
            continue
        told = "%{y:.1%}" if share else "%{y}"
        figure.add_scatter(
            x=list(result.iterations), y=_numbers(values[0]), name=name, mode="lines+markers", marker={"size": 6},
            line={"color": colour, "width": 2.5, "dash": dash}, hovertemplate=f"{name}, iteration %{{x}}: "
                                                                              f"{told}<extra></extra>",
        )  # fmt: skip
    if share:
        figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def panels(result: Forms) -> list[Panel]:
    """The finding as a report shows it."""
    i, m = _ends(result.kappa[0])
    distances = {"KL to the final answer": result.kl, "entropy": result.entropy}
    kl, first, last = result.kl[0], result.iterations[i], result.iterations[m]
    caution = f"{result.caution} " if result.caution else ""
    shares = {"as at the end": result.agreement, "right": result.right}
    ranks = "; ".join(
        f"{name}: {number(float(v[0, i]))} at {first}, {number(float(v[0, m]))} at {last}"
        for name, v in result.rank.items()
    )
    margin = result.margin[0]
    return [
        Panel(
            "Where the answers stand among all tokens",
            draw(result),
            f"{caution}Mean ranks at '{result.sites[0]}' of {result.vocabulary} tokens: {ranks}.",
            "Read out of every state, in the mean over the answered positions; 1 is first. Lines on each "
            "other are one token.",
        ),
        Panel(
            "How far from the final answer?",
            _curves(result, "Distance from the final answer", "nats", distances, share=False),
            f"{caution}The KL divergence to the final answer is {number(float(kl[i]))} nats at iteration "
            f"{first}, largest at iteration {result.iterations[int(kl.nan_to_num(-1).argmax())]} "
            f"({number(float(kl.nan_to_num(-1).max()))}), and {number(float(kl[m]))} at iteration {last}.",
            "High KL with low entropy: sure of something else. Falling together: the answer takes form. 0 "
            "entropy is certainty.",
        ),
        Panel(
            "How many answers are there already?",
            _curves(result, "Answers that are there", "fraction of answers", shares, share=True),
            f"{caution}{result.verdict.sentence} Half of the answers no longer change after iteration "
            f"{int(result.settled[0].median())}; their lead at the end is {number(float(margin[m]))} logits, "
            f"{number(float(margin[i]))} at iteration {first}.",
            "The fraction of answers that are the final one, and of those that are right. Where few tokens "
            "can be answers, many agree by chance: the kappa in the summary takes that off.",
        ),
        table_panel(result.table, _title(result, "What is read at each position"), result.sites[0], caution),
    ]  # fmt: skip
