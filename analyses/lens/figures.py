"""Ranks, distances and agreement by iteration, and the table of what is read."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from loopscope.common.text import number, plural
from loopscope.lenses.token_table import token_table_panel
from loopscope.plots import style
from loopscope.plots.panels import Panel

from .measure import LensResult, LensVerdict
from .metrics import FINAL, RIGHT, ends_of

if TYPE_CHECKING:
    import plotly.graph_objects as go


def headline(result: LensResult) -> tuple[str, str]:
    """The result in one number, and what the number is."""
    if result.verdict is LensVerdict.alike:
        return "-", result.sentence
    return (
        f"k = {int(result.settled[0].median())}",
        f"iteration after which half of the answers no longer change. {result.sentence}",
    )


def draw(result: LensResult) -> "go.Figure":
    """Mean rank of the followed tokens by iteration, at the first site."""
    figure = style.empty(_title(result, "Rank of the answer"), "iterations", "mean rank, 1 = first", 380)
    for trace in _ranks(result, 0):
        figure.add_scatter(**trace)
    top = max([1.5, *(float(v[0].nan_to_num().max()) for v in result.rank.values())])
    figure.update_yaxes(type="log", range=[_log(top * 1.15), _log(0.93)], dtick="D1" if top < 12 else 1)
    return figure


def _ranks(result: LensResult, site: int) -> list[dict[str, Any]]:
    colours = (style.BLUE, style.ORANGE, *style.COLOURS[2:])
    dashes = ("solid", "dash", "dot", "dashdot", "longdash", "dot")
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
            "%{customdata} %<extra></extra>",
        }
        for name, colour, dash in zip(result.rank, colours, dashes, strict=False)
    ]


def _moment(result: LensResult, index: int) -> str:
    """When a column of the result is read."""
    k = result.iterations[index]
    if result.sites[0] != "state":
        return f"at iteration {k}"
    return "before the loop" if k == 0 else f"after {plural(k, 'iteration')}"


def _log(value: float) -> float:
    return float(torch.tensor(value).log10())


def _numbers(values: Tensor, digits: int = 4) -> list[float | None]:
    return [None if v != v else round(v, digits) for v in values.tolist()]


def _title(result: LensResult, title: str) -> str:
    marks = "" if result.checked else " (unchecked lens)"
    return f"{title}, by the lens '{result.lens}'{marks}"


def _curves(
    result: LensResult, title: str, quantity: str, lines: Mapping[str, Tensor | None], *, share: bool
) -> "go.Figure":
    """Some means by iteration, at the first site."""
    figure = style.empty(_title(result, title), "iterations", quantity, 340)
    value = "%{y:.1%}" if share else "%{y}"
    styles = zip(style.COLOURS, ("solid", "dash", "dot"), strict=False)
    for (name, values), (colour, dash) in zip(lines.items(), styles, strict=False):
        if values is not None:
            figure.add_scatter(
                x=list(result.iterations),
                y=_numbers(values[0]),
                name=name,
                mode="lines+markers",
                marker={"size": 6},
                line={"color": colour, "width": 2.5, "dash": dash},
                hovertemplate=f"{name}, iteration %{{x}}: {value}<extra></extra>",
            )
    if share:
        figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def panels(result: LensResult) -> list[Panel]:
    """The panels of a report."""
    i, m = ends_of(result.kappa[0])
    distances = {"KL to the final answer": result.kl, "entropy": result.entropy}
    kl, first, last = result.kl[0], result.iterations[i], result.iterations[m]
    caution = f"{result.caution} " if result.caution else ""
    shares = {"final answer": result.agreement, "right answer": result.right}
    site = "" if result.sites[0] == "state" else f", at '{result.sites[0]}'"
    among = f" among the {result.vocabulary} tokens{site}"
    start, end = _moment(result, i), _moment(result, m)
    ranks = "; ".join(
        f"of {'the ' * (name in (FINAL, RIGHT))}{name}{'' if index else among}: "
        f"{number(float(v[0, i]))} {start}, {number(float(v[0, m]))} {end}"
        for index, (name, v) in enumerate(result.rank.items())
    )
    margin = result.margin[0]
    return [
        Panel(
            "Rank of the answer in the vocabulary",
            draw(result),
            f"{caution}Mean rank {ranks}.",
            "Decoded from every state, on average over the answered positions; 1 is first. Lines on top of "
            "each other are the same token.",
        ),
        Panel(
            "KL divergence from the final answer, and entropy",
            _curves(result, "Distance from the final answer", "nats", distances, share=False),
            f"{caution}The KL divergence from the final answer is {number(float(kl[i]))} nats at iteration "
            f"{first}, largest at iteration {result.iterations[int(kl.nan_to_num(-1).argmax())]} "
            f"({number(float(kl.nan_to_num(-1).max()))}), and {number(float(kl[m]))} at iteration {last}.",
            "High KL with low entropy: confident in another answer. Both falling: the answer forms. Entropy "
            "0 is certainty.",
        ),
        Panel(
            "Agreement with the final and the right answer",
            _curves(result, "Agreement", "fraction of answers", shares, share=True),
            f"{caution}{result.sentence} Half of the answers no longer change after iteration "
            f"{int(result.settled[0].median())}; their mean logit margin is {number(float(margin[i]))} at "
            f"iteration {first} and {number(float(margin[m]))} at the end.",
            "The fraction of answers that equal the final one, and of those that are right. With few "
            "possible answers many agree by chance; the kappa under Details corrects for that.",
        ),
        token_table_panel(
            result.table, _title(result, "What is read at each position"), result.sites[0], caution
        ),
    ]
