"""A table of the tokens that a lens gives for some examples, iteration by position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from ..common.text import number
from ..plots import style
from ..plots.heatmaps import WIDEST, token_heatmap, token_label, token_rows
from ..plots.panels import Frame, Panel
from ..recorder.labels import example_names, inputs_of, symbol_of
from ..runs.run import Run

EXAMPLES = 8


@dataclass(frozen=True)
class TokenTable:
    """The likeliest tokens of some examples at one site."""

    iterations: tuple[int, ...]
    top: Int[Tensor, "iteration example position top"]
    """The likeliest tokens, the likeliest first; -1 where there is no value."""
    p: Float[Tensor, "iteration example position top"]
    """Their probabilities."""
    final: Float[Tensor, "iteration example position"]
    """The probability of the model's final answer."""
    inputs: tuple[tuple[str, ...], ...]
    """The input token at each position of each example; empty where it is unknown."""
    names: tuple[str, ...]
    """Of the examples."""
    symbols: dict[int, str]
    """What the tokens of the table are called, by id."""
    target: Int[Tensor, "example position"]
    """The right answer; -1 where there is none or it is unknown."""


def token_table(
    run: Run,
    top: Float[Tensor, "iteration batch position top"],
    p: Float[Tensor, "iteration batch position top"],
    final: Float[Tensor, "iteration batch position"],
    *,
    target: Int[Tensor, "batch position"],
    iterations: Sequence[int],
) -> TokenTable:
    """The table of the first EXAMPLES examples, at the iterations that have values."""
    ids = top[:, :EXAMPLES].nan_to_num(-1).long()
    present = (ids >= 0).flatten(1).any(1)
    count, positions = ids.shape[1:3]
    symbol, rows = symbol_of(run), inputs_of(run)
    inputs: list[tuple[str, ...]] = [("",) * positions] * count
    if rows is not None and len(rows[0]) == positions:
        inputs = [tuple(row) for row in rows[:count]]
    used = sorted({*ids.flatten().tolist(), *target[:count].flatten().tolist()} - {-1})
    return TokenTable(
        iterations=tuple(k for k, value in zip(iterations, present.tolist(), strict=True) if value),
        top=ids[present],
        p=p[:, :EXAMPLES][present],
        final=final[:, :EXAMPLES][present],
        inputs=tuple(inputs),
        names=tuple(example_names(run, range(count))),
        symbols={token: symbol(token) for token in used},
        target=target[:count],
    )


def token_table_panel(table: TokenTable, title: str, site: str, caution: str = "") -> Panel:
    """The table as a figure with one frame for each example."""
    width = table.top.shape[2]
    frames = [
        Frame(
            name,
            {0: _cells(table, b)}
            | ({1: token_rows(table.inputs[b])} if any(table.inputs[b]) and width <= WIDEST else {}),
        )
        for b, name in enumerate(table.names)
    ]
    figure = token_heatmap(
        title,
        frames[0].update[0],
        table.iterations,
        width,
        rows=frames[0].update.get(1),
        hover="k = %{y}, position %{x}, input %{customdata[0]}<br>%{customdata[1]}%{customdata[2]}",
        colorscale=style.SCALE,
        zmin=0,
        zmax=1,
        colorbar=style.colourbar("probability of the final answer"),
        textfont={"size": 11},
    )
    means = [number(float(p.nanmean()), 2) for p in (table.final[0], table.final[-1])]
    return Panel(
        "The lens's answer at each position, and the probability of the final answer",
        figure,
        f"{caution}In these examples '{site}' gives the final answer a probability of {means[0]} on average "
        f"at iteration {table.iterations[0]} and of {means[1]} at iteration {table.iterations[-1]}.",
        "Each cell shows the likeliest token; its colour is the probability of the final answer: a dark cell "
        "prefers another token. "
        f"Hover for the {table.top.shape[3]} likeliest tokens, the input at the position, and whether the "
        "answer is right. Choose another example above.",
        frames,
    )


def _cells(table: TokenTable, b: int) -> dict[str, Any]:
    def word(token: int) -> str:
        return token_label(table.symbols[token])

    z, text, hover = [], [], []
    for ids, p, final in zip(
        *(part[:, b].tolist() for part in (table.top, table.p, table.final)), strict=True
    ):
        z.append([round(value, 3) if value == value else None for value in final])
        text.append([word(top[0]) if top[0] >= 0 else "" for top in ids])
        hover.append(
            [
                [
                    token_label(token) if token else "?",
                    "<br>".join(f"{word(t)} {q:.3f}" for t, q in zip(top, chance, strict=True) if t >= 0),
                    "" if goal < 0 else f"<br>{'right' if top[0] == goal else 'wrong: ' + word(goal)}",
                ]
                for top, chance, goal, token in zip(
                    ids, p, table.target[b].tolist(), table.inputs[b], strict=True
                )
            ]
        )
    return {"z": z, "text": text, "customdata": hover}
