"""What the model would answer, had it stopped after each iteration."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.text import percent
from ..plots import style
from ..plots.heatmaps import shown, token_map
from ..plots.panels import Frame, Panel
from ..recorder.labels import labels_of, task_of
from ..runs.run import Run
from .section import Section

EXAMPLES = 8
_NOT_ASKED, _WRONG, _RIGHT = 0, 1, 2
_COLOURS = ("#a9afb8", style.ORANGE, style.SKY)


def section(run: Run) -> Section | None:
    """The map of answers, iteration by position; None for a run that can't be read out."""
    try:
        logits = [run.logits[k][:EXAMPLES].detach().float().cpu() for k in run.states.iterations]
    except LoopscopeError:
        return None
    if logits[0].shape[-1] == 1:  # a number, which has no likeliest token
        return None
    answers = torch.stack([one.argmax(-1) for one in logits])
    sure = torch.stack([one.softmax(-1).amax(-1) for one in logits])
    labels, task = labels_of(run), task_of(run)
    if labels is None or task is None:
        mark = torch.full_like(answers, _NOT_ASKED)
        names = [f"example {b}" for b in range(answers.shape[1])]
        symbols, columns = None, None
    else:
        rows = slice(0, answers.shape[1])
        right = answers == labels.targets[rows]
        mark = torch.where(labels.mask[rows], torch.where(right, _RIGHT, _WRONG), _NOT_ASKED)
        names, symbols = task.render(run.tokens[rows].cpu()), task.symbols
        columns = [[symbols[token] for token in row] for row in run.tokens[rows].tolist()]
    frames = [
        Frame(
            name,
            {0: _cells(answers[:, b], sure[:, b], mark[:, b], symbols, read=columns[b] if columns else None)},
        )
        for b, name in enumerate(names)
    ]
    panel = Panel(
        "What it would answer, had it stopped after each iteration",
        _map(frames[0].update[0], run.states.iterations, answers.shape[2]),
        _seen(mark, run.states.iterations),
        "Each row is read out of the state after so many iterations; time runs downwards. Each cell holds "
        "the token that the model would write; hover for the token it read and how sure it is. Choose "
        "another example above.",
        frames,
    )
    return Section("answers", "Answers", 2, [panel])


def _cells(
    answers: Tensor, sure: Tensor, mark: Tensor, symbols: tuple[str, ...] | None, *, read: list[str] | None
) -> dict[str, Any]:
    said = [[shown(symbols[token] if symbols else str(token)) for token in row] for row in answers.tolist()]
    given = [shown(token) for token in read] if read else [""] * answers.shape[1]
    more = [
        [
            [given[p], round(s, 3), ("not asked", "wrong", "right")[m]]
            for p, (s, m) in enumerate(zip(row, marks, strict=True))
        ]
        for row, marks in zip(sure.tolist(), mark.tolist(), strict=True)
    ]
    return {"z": mark.tolist(), "text": said, "customdata": more}


def _map(cells: Mapping[str, Any], iterations: list[int], positions: int) -> Any:
    step = [[i / 3 + edge / 3, colour] for i, colour in enumerate(_COLOURS) for edge in (0, 1)]
    figure = token_map(
        "The answer after every iteration",
        cells,
        iterations,
        positions,
        hover="after %{y} iterations, position %{x}: %{text}, %{customdata[2]} (p = %{customdata[1]}); it "
        "read "
        "%{customdata[0]}",
        zmin=-0.5,
        zmax=2.5,
        colorscale=step,
        showscale=False,
        textfont={"color": "#15181c", "size": 11},
    )
    for name, colour in zip(("not asked", "wrong", "right"), _COLOURS, strict=True):
        marker = {"color": colour, "symbol": "square", "size": 12}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=marker, hoverinfo="skip")
    return figure


def _seen(mark: Tensor, iterations: list[int]) -> str:
    asked = mark != _NOT_ASKED
    if not asked.any():
        return "The right answers are not known, so the cells show only what the model would say."
    share = (mark == _RIGHT).sum((1, 2)) / asked.sum((1, 2))
    whole = [
        int(k) for k, one in zip(iterations, ((mark == _RIGHT) | ~asked).all(2).all(1), strict=True) if one
    ]
    done = (
        f"all {mark.shape[1]} examples are right after {whole[0]} iterations"
        if whole
        else "never are all of them right"
    )
    return (
        f"Of the answers in these examples {percent(float(share[0]))} are right before the loop and "
        f"{percent(float(share[-1]))} after {iterations[-1]} iterations; {done}."
    )
