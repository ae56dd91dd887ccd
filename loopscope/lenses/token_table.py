"""Table: what a lens reads from some examples, iteration by position, to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from ..common.text import number
from ..plots import style
from ..plots.heatmaps import token_heatmap, token_label
from ..plots.panels import Frame, Panel
from ..recorder.labels import labels_of, task_of
from ..runs.run import Run

EXAMPLES = 8


@dataclass(frozen=True)
class Table:
    """What is read from some of the examples at one site."""

    iterations: tuple[int, ...]
    top: Int[Tensor, "iteration example position top"]
    """The likeliest tokens, the likeliest first; -1 where nothing is read."""
    p: Float[Tensor, "iteration example position top"]
    """Their probabilities."""
    final: Float[Tensor, "iteration example position"]
    """The probability of the model's final answer."""
    given: tuple[tuple[str, ...], ...]
    """What stands at each position of each example; empty where that isn't known."""
    names: tuple[str, ...]
    """Of the examples."""
    symbols: tuple[str, ...]
    """Of the tokens; empty if only their ids are known."""
    target: Int[Tensor, "example position"]
    """The right answer; -1 where none is asked for or known."""


def table_of(
    run: Run,
    top: Float[Tensor, "iteration batch position top"],
    p: Float[Tensor, "iteration batch position top"],
    final: Float[Tensor, "iteration batch position"],
    *,
    target: Int[Tensor, "batch position"],
    iterations: Sequence[int],
) -> Table:
    """The first EXAMPLES examples, and the iterations at which something is read."""
    ids = top[:, :EXAMPLES].nan_to_num(-1).long()
    present = (ids >= 0).flatten(1).any(1)
    count, positions = ids.shape[1:3]
    task = task_of(run) if labels_of(run) is not None else None
    symbols = task.symbols if task is not None else ()
    tokens = run.tokens[:count].cpu() if isinstance(run.tokens, Tensor) else None
    if tokens is None or tokens.is_floating_point() or tuple(tokens.shape) != (count, positions):
        given, names = [("",) * positions] * count, [f"example {b}" for b in range(count)]
    else:
        given = [tuple(symbols[t] if symbols else str(t) for t in row) for row in tokens.tolist()]
        names = task.render(tokens) if task is not None else [f"example {b}" for b in range(count)]
    return Table(
        iterations=tuple(k for k, there in zip(iterations, present.tolist(), strict=True) if there),
        top=ids[present],
        p=p[:, :EXAMPLES][present],
        final=final[:, :EXAMPLES][present],
        given=tuple(given),
        names=tuple(names),
        symbols=tuple(symbols),
        target=target[:count],
    )


def table_panel(table: Table, title: str, site: str, caution: str = "") -> Panel:
    """The table as a figure, an example at a time."""
    frames = [Frame(name, {0: _cells(table, b)}) for b, name in enumerate(table.names)]
    figure = token_heatmap(
        title,
        frames[0].update[0],
        table.iterations,
        table.top.shape[2],
        hover="iteration %{y}, position %{x}, which holds "
        "%{customdata[0]}<br>%{customdata[1]}%{customdata[2]}",
        colorscale=style.SCALE,
        zmin=0,
        zmax=1,
        colorbar=style.colourbar("probability of the final answer"),
        textfont={"size": 11},
    )
    sure = [number(float(one.nanmean()), 2) for one in (table.final[0], table.final[-1])]
    return Panel(
        "What is read at each position, and how near it is to the final answer",
        figure,
        f"{caution}In these examples '{site}' gives the final answer a probability of {sure[0]} in the mean "
        f"at iteration {table.iterations[0]} and of {sure[1]} at iteration {table.iterations[-1]}.",
        "Each cell holds the likeliest token; its colour is the probability of the final answer: dark is "
        "sure of something else. "
        f"Hover for the {table.top.shape[3]} likeliest, for what stands at the position, and for whether it "
        "is right. Choose another example above.",
        frames,
    )


def _cells(table: Table, b: int) -> dict[str, Any]:
    def word(token: int) -> str:
        return token_label(table.symbols[token]) if table.symbols else str(token)

    z, text, more = [], [], []
    for ids, p, final in zip(
        *(part[:, b].tolist() for part in (table.top, table.p, table.final)), strict=True
    ):
        z.append([round(own, 3) if own == own else None for own in final])
        text.append([word(own[0]) if own[0] >= 0 else "" for own in ids])
        more.append(
            [
                [
                    token_label(given) if given else "?",
                    "<br>".join(f"{word(t)} {q:.3f}" for t, q in zip(own, chance, strict=True) if t >= 0),
                    "" if goal < 0 else f"<br>{'right' if own[0] == goal else 'wrong: ' + word(goal)}",
                ]
                for own, chance, goal, given in zip(
                    ids, p, table.target[b].tolist(), table.given[b], strict=True
                )
            ]
        )
    return {"z": z, "text": text, "customdata": more}
