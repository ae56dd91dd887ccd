"""The section on answers: those that the model would give if it stopped after k iterations."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.text import percent, plural
from ..plots import style
from ..plots.heatmaps import token_heatmap, token_label
from ..plots.panels import Frame, Panel
from ..recorder.labels import labels_of, task_of
from ..runs.run import Run
from ..runs.run_mask import mask_of
from .section import Section

if TYPE_CHECKING:
    import plotly.graph_objects as go

EXAMPLES = 8
_NO_TARGET, _WRONG, _CORRECT = 0, 1, 2
_STATUS = ("no target", "wrong", "correct")
_COLOURS = ("#a9afb8", style.ORANGE, style.SKY)


def section(run: Run) -> Section | None:
    """The map of answers, iteration by position; None for a run that can't be read out."""
    try:
        logits = [run.logits[k][:EXAMPLES].detach().float().cpu() for k in run.states.iterations]
    except LoopscopeError:
        return None
    if logits[0].shape[-1] == 1:  # the answer is a number, not a token
        return None
    answers = torch.stack([one.argmax(-1) for one in logits])
    confidence = torch.stack([one.softmax(-1).amax(-1) for one in logits])
    labels, task = labels_of(run), task_of(run)
    if labels is None or task is None:
        status = torch.full_like(answers, _NO_TARGET)
        names = [f"example {b}" for b in range(answers.shape[1])]
        symbols, inputs = None, None
    else:
        rows = slice(0, answers.shape[1])
        correct = answers == labels.targets[rows]
        status = torch.where(labels.mask[rows], torch.where(correct, _CORRECT, _WRONG), _NO_TARGET)
        names, symbols = task.render(run.tokens[rows].cpu()), task.symbols
        inputs = [[symbols[token] for token in row] for row in run.tokens[rows].tolist()]
    counted = mask_of(run, len(run.mask), answers.shape[2])[:EXAMPLES]
    frames = [
        Frame(
            name,
            {
                0: _cells(
                    answers[:, b],
                    confidence[:, b],
                    status[:, b],
                    symbols=symbols,
                    inputs=inputs[b] if inputs else None,
                    counted=counted[b].tolist(),
                )
            },
        )
        for b, name in enumerate(names)
    ]
    panel = Panel(
        "Answers after k iterations",
        _figure(frames[0].update[0], run.states.iterations, answers.shape[2]),
        _observation(status, run.states.iterations),
        "Each row is read out from the state after k iterations; k increases downwards. Each cell shows "
        "the most likely token. Hover over it for the input token and for the probability. Choose another "
        "example above.",
        frames,
    )
    data = {"iterations": run.states.iterations, "correct": _correct_share(status)}
    return Section("answers", "Answers", 2, [panel], data=data)


def _cells(
    answers: Tensor,
    confidence: Tensor,
    status: Tensor,
    *,
    symbols: tuple[str, ...] | None,
    inputs: list[str] | None,
    counted: list[bool],
) -> dict[str, Any]:
    """Values, tokens and hover data of one example, (iteration, position); empty where a position
    doesn't count."""
    text = [
        [
            token_label(symbols[token] if symbols else str(token)) if counts else ""
            for token, counts in zip(row, counted, strict=True)
        ]
        for row in answers.tolist()
    ]
    z = [[s if counts else None for s, counts in zip(row, counted, strict=True)] for row in status.tolist()]
    read = [token_label(token) for token in inputs] if inputs else [""] * answers.shape[1]
    hover = [
        [[token, round(p, 3), _STATUS[s]] for token, p, s in zip(read, row, statuses, strict=True)]
        for row, statuses in zip(confidence.tolist(), status.tolist(), strict=True)
    ]
    return {"z": z, "text": text, "customdata": hover}


def _figure(cells: Mapping[str, Any], iterations: list[int], positions: int) -> "go.Figure":
    scale = [[i / 3 + edge / 3, colour] for i, colour in enumerate(_COLOURS) for edge in (0, 1)]
    figure = token_heatmap(
        "Answers after k iterations",
        cells,
        iterations,
        positions,
        hover="after %{y} iterations, position %{x}: %{text}, %{customdata[2]} (p = %{customdata[1]}); "
        "input token %{customdata[0]}",
        zmin=-0.5,
        zmax=2.5,
        colorscale=scale,
        showscale=False,
        textfont={"color": "#15181c", "size": 11},
    )
    for name, colour in zip(_STATUS, _COLOURS, strict=True):
        marker = {"color": colour, "symbol": "square", "size": 12}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=marker, hoverinfo="skip")
    return figure


def _observation(status: Tensor, iterations: list[int]) -> str:
    has_target = status != _NO_TARGET
    if not has_target.any():
        return "The correct answers are not known, so the cells show only what the model would answer."
    share = _correct_share(status)
    complete = ((status == _CORRECT) | ~has_target).all(2).all(1)
    first = next((int(k) for k, one in zip(iterations, complete, strict=True) if one), None)
    rest = (
        "not all of them are correct after any number of iterations"
        if first is None
        else f"all {plural(status.shape[1], 'example')} are correct after {plural(first, 'iteration')}"
    )
    return (
        f"Of the answers in these examples, {percent(float(share[0]))} are correct before the loop and "
        f"{percent(float(share[-1]))} after {plural(iterations[-1], 'iteration')}; {rest}."
    )


def _correct_share(status: Tensor) -> Tensor:
    """The fraction of correct answers (iteration,); NaN where the correct answers aren't known."""
    return (status == _CORRECT).sum((1, 2)) / (status != _NO_TARGET).sum((1, 2))
