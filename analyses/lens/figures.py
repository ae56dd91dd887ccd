"""Ranks, distances and agreement by iteration, and the table of what is read."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from loopscope.common.text import number, plural
from loopscope.lenses.token_table import token_table_panel
from loopscope.plots import style
from loopscope.plots.bands import add_band
from loopscope.plots.panels import Panel

from .chain import chain_panel
from .metrics import FINAL, RIGHT, ends_of
from .result import LensResult
from .verdict import LensVerdict

if TYPE_CHECKING:
    import plotly.graph_objects as go


CHANCE = "final answer, by chance"


def headline(result: LensResult) -> tuple[str, str]:
    """The result in one number, and what the number is."""
    if result.verdict is LensVerdict.alike:
        return "-", "all final answers are the same token"
    run = int(result.settled[0].median())
    if not run:
        return "half", "or more of the final answers are there before the loop"
    return plural(run, "iteration"), "run before half of the answers no longer change"


def draw(result: LensResult) -> "go.Figure":
    """Mean rank of the followed tokens by iteration, at the first site, with its intervals."""
    figure = style.empty(
        _title(result, "Rank of the answer"), _iteration_axis(result), "mean rank, 1 = first", 380
    )
    colours = (style.BLUE, style.ORANGE, *style.COLOURS[2:])
    dashes = ("solid", "dash", "dot", "dashdot", "longdash", "dot")
    for name, colour in zip(result.rank, colours, strict=False):
        low, high = result.bands[f"rank {name}"]
        add_band(figure, result.iterations, low, high, colour=colour)
    for name, colour, dash in zip(result.rank, colours, dashes, strict=False):
        figure.add_scatter(
            x=list(result.iterations),
            y=_numbers(result.rank[name][0]),
            customdata=_numbers(100 * result.first[name][0], 1),
            name=style.label(name),
            mode="lines+markers",
            line={"color": colour, "width": 2.5, "dash": dash},
            marker={"size": 6},
            hovertemplate=f"{style.label(name)}, {_hover_place(result)}: mean rank %{{y}}, first in "
            "%{customdata} %<extra></extra>",
        )
    tops = [result.bands[f"rank {name}"][1] for name in result.rank] + [v[0] for v in result.rank.values()]
    top = max([1.5, *(float(values.nan_to_num().max()) for values in tops)])
    ticks = [rank for rank in (1, 1.2, 1.5, 2, 3, 5, 7) if rank <= 1.15 * top] if top < 12 else None
    figure.update_yaxes(type="log", range=[_log(top * 1.15), _log(0.93)], dtick=1, tickvals=ticks)
    return figure


def _iteration_axis(result: LensResult) -> str:
    """A state is what k iterations made; another site belongs to an iteration."""
    return "iterations run (k)" if result.sites[0] == "state" else "iteration (t)"


def _hover_place(result: LensResult) -> str:
    return "k = %{x}" if result.sites[0] == "state" else "t = %{x}"


def _moment(result: LensResult, index: int) -> str:
    """When a column of the result is read."""
    return _at(result, result.iterations[index])


def _at(result: LensResult, k: int) -> str:
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
    result: LensResult,
    title: str,
    quantity: str,
    lines: Mapping[str, tuple[str, Tensor | None]],
    *,
    share: bool,
) -> "go.Figure":
    """Some means by iteration, at the first site, with their intervals.

    Arguments:
        lines: by name of the curve: the name of its band (empty: none), and its values (site,
            iteration).
    """
    figure = style.empty(_title(result, title), _iteration_axis(result), quantity, 340)
    value = "%{y:.1%}" if share else "%{y}"
    styles = list(zip(style.COLOURS, ("solid", "dash", "dot"), strict=False))
    for (band, values), (colour, _) in zip(lines.values(), styles, strict=False):
        if values is not None and band:
            add_band(figure, result.iterations, *result.bands[band], colour=colour)
    for (name, (_, values)), (colour, dash) in zip(lines.items(), styles, strict=False):
        if values is not None:
            figure.add_scatter(
                x=list(result.iterations),
                y=_numbers(values[0]),
                name=name,
                mode="lines+markers",
                marker={"size": 6},
                line={"color": colour, "width": 2.5, "dash": dash},
                hovertemplate=f"{name}, {_hover_place(result)}: {value}<extra></extra>",
            )
    if share:
        figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def panels(result: LensResult) -> list[Panel]:
    """The panels of a report."""
    i, m = ends_of(result.kappa[0])
    distances = {
        "KL divergence from the final answer": ("kl", result.kl),
        "entropy of the lens's answer": ("entropy", result.entropy),
    }
    kl = result.kl[0]
    caution = f"{result.caution} " if result.caution else ""
    shares = {"final answer": ("agreement", result.agreement), "right answer": ("right", result.right)}
    if not bool(result.by_chance[0].isnan().all()):
        shares[CHANCE] = ("", result.by_chance)
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
            "each other are the same token. Bands: 95 % intervals over examples.",
        ),
        Panel(
            "KL divergence from the final answer, and entropy",
            _curves(result, "Distance from the final answer", "nats", distances, share=False),
            f"{caution}The KL divergence from the final answer is {number(float(kl[i]))} nats {start}, "
            f"largest {_moment(result, int(kl.nan_to_num(-1).argmax()))} "
            f"({number(float(kl.nan_to_num(-1).max()))} nats), and {number(float(kl[m]))} nats {end}.",
            "High KL with low entropy: confident in another answer. Both falling: the answer forms. Entropy "
            "0 is certainty. Bands: 95 % intervals over examples.",
        ),
        Panel(
            "Agreement with the final and the right answer",
            _curves(result, "Agreement", "fraction of answers", shares, share=True),
            f"{caution}{result.sentence} Half of the answers no longer change "
            f"{_at(result, int(result.settled[0].median()))}; their mean logit margin is "
            f"{number(float(margin[i]))} {start} and {number(float(margin[m]))} {end}.",
            "The fraction of answers that equal the final one, and of those that are right. By chance: "
            "independent answers, each as frequent as it is here. Agreement below that doesn't mean that the "
            "state denies what it knows: the read-out wasn't trained on every state. Bands: 95 % intervals "
            "over examples.",
        ),
        *([] if result.chain is None else [chain_panel(result.chain)]),
        token_table_panel(
            result.table, _title(result, "What is read at each position"), result.sites[0], caution
        ),
    ]
