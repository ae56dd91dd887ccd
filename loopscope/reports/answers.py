"""The section on answers: those that the model would give if it stopped after k iterations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.text import percent, plural
from ..plots.boards import CORRECT, GIVEN, INK, KIND_COLOURS, SOLUTION, WRONG, board_cells, board_figure
from ..plots.heatmaps import WIDEST, token_heatmap, token_label, token_rows
from ..plots.panels import Control, Frame, Panel
from ..recorder.labels import example_names, inputs_of, symbol_of
from ..recorder.run_score import RunScore, score_of
from ..runs.run import Run
from ..runs.run_mask import mask_of
from .section import Section
from .thinned import thinned

if TYPE_CHECKING:
    import plotly.graph_objects as go

EXAMPLES, UNSOLVED = 8, 2
"""Examples drawn; how many of them are ones that the model doesn't solve, if there are any."""
_STATUS = ("no answer to give", "wrong", "correct")


@dataclass(frozen=True)
class _Answers:
    """The answers of the examples that are drawn."""

    rows: list[int]
    """Their numbers in the run."""
    iterations: list[int]
    tokens: Int[Tensor, "iteration example position"]
    p: Float[Tensor, "iteration example position"]
    """The probabilities of these tokens."""
    status: Int[Tensor, "iteration example position"]
    """GIVEN (no answer to give), WRONG or CORRECT."""


def section(run: Run) -> Section | None:
    """The answers, iteration by position or as boards; None for a run that can't be read out, or
    whose answers are numbers."""
    score = score_of(run)
    rows = _rows(run, score)
    try:
        logits = [run.logits[k][rows].detach().float().cpu() for k in run.states.iterations]
    except LoopscopeError:
        return None
    if logits[0].ndim != 3 or logits[0].shape[-1] == 1:  # the answer is a number, not a token
        return None
    tokens = torch.stack([one.argmax(-1) for one in logits])
    status = torch.full_like(tokens, GIVEN)
    if score is not None:
        correct = torch.where(score.correctness[:, rows] >= 1, CORRECT, WRONG)
        status = torch.where(score.mask[rows], correct, GIVEN)
    p = torch.stack([one.softmax(-1).amax(-1) for one in logits])
    answers = _Answers(rows, run.states.iterations, tokens, p, status)
    if score is not None and score.task.shape is not None:
        panel = _board_panel(run, answers, score)
    else:
        panel = _sequence_panel(run, answers, score)
    return Section("answers", "Answers", 2, [panel], group="answers")


def _rows(run: Run, score: RunScore | None) -> list[int]:
    """The examples that are drawn: the first, but with some that the model doesn't solve."""
    count = run.states.shape[1 + run.states.axes[1:].index("batch")] if "batch" in run.states.axes else 1
    first = list(range(min(EXAMPLES, count)))
    if score is None or not bool(score.solved[-1, first].all()):
        return first
    unsolved = (~score.solved[-1]).nonzero()[:UNSOLVED, 0].tolist()
    return [*first[: len(first) - len(unsolved)], *unsolved]


def _board_panel(run: Run, answers: _Answers, score: RunScore) -> Panel:
    """The boards of some examples, with a menu of these and a slider of iterations."""
    task, symbols = score.task, score.task.symbols
    shape, targets = task.shape, task.label(run.tokens.cpu()).targets
    assert shape is not None
    rows, columns = shape
    places = thinned(len(answers.iterations))

    def solution(b: int) -> dict[str, Any]:
        row = answers.rows[b]
        kinds = torch.where(score.mask[row], SOLUTION, GIVEN).tolist()
        return board_cells([symbols[token] for token in targets[row].tolist()], kinds, (rows, columns))

    def answer(b: int, i: int) -> dict[str, Any]:
        row = answers.rows[b]
        tokens = torch.where(score.mask[row], answers.tokens[i, b], run.tokens[row].cpu())
        p = [round(value, 2) for value in answers.p[i, b].tolist()]
        kinds = answers.status[i, b].tolist()
        return board_cells([symbols[token] for token in tokens.tolist()], kinds, (rows, columns), p)

    boards = range(len(answers.rows))
    frames = [
        Frame(
            f"example {name}, after {plural(answers.iterations[i], 'iteration')}",
            {0: answer(b, i), 1: solution(b)},
        )
        for b, name in zip(boards, _board_names(answers, score), strict=True)
        for i in places
    ]
    return Panel(
        "The board after k iterations",
        board_figure(
            "The board after k iterations",
            frames[len(places) - 1].update[0],
            frames[len(places) - 1].update[1],
            (rows, columns),
            box=task.box_shape,
            hover="%{y}, %{x}: %{text} (p = %{customdata})",
        ),
        _observation(score),
        "Left: the cells that the model would give if it stopped after k iterations. Bold on grey: given. ✓ "
        "on blue: correct. ✗ on orange: wrong. Right: the solution. Hover for the probability of an answer. "
        f"Choose an example and move the slider.{_choice_sentence(answers, score)}",
        frames,
        first=len(places) - 1,
        controls=(
            Control("Example", _board_names(answers, score)),
            Control(
                "Iterations run (k)",
                [str(answers.iterations[i]) for i in places],
                "slide",
            ),
        ),
    )


def _board_names(answers: _Answers, score: RunScore) -> list[str]:
    names = []
    for row in answers.rows:
        wrong = (~score.solved[:, row]).nonzero()[:, 0].tolist()
        after = wrong[-1] + 1 if wrong else 0
        fate = f"solved from k = {score.iterations[after]}" if after < len(score.iterations) else "not solved"
        names.append(f"{row}: {int(score.mask[row].sum())} to fill, {fate}")
    return names


def _sequence_panel(run: Run, answers: _Answers, score: RunScore | None) -> Panel:
    """The answers of some examples, iteration by position, with a menu of these."""
    symbol, inputs, count = symbol_of(run), inputs_of(run), answers.tokens.shape[2]
    counted = mask_of(run, len(run.mask), count)[answers.rows]
    targets = None if score is None else score.task.label(run.tokens.cpu()).targets
    frames = []
    for b, (row, name) in enumerate(zip(answers.rows, example_names(run, answers.rows), strict=True)):
        update: dict[int, Any] = {0: _cells(answers, b, symbol, counted=counted[b].tolist())}
        if inputs is not None and len(inputs[row]) == count <= WIDEST:
            correct = None
            if score is not None and targets is not None:
                pairs = zip(targets[row].tolist(), score.mask[row].tolist(), strict=True)
                correct = [symbol(token) if wanted else "" for token, wanted in pairs]
            update[1] = token_rows(inputs[row], correct)
        frames.append(Frame(name, update))
    signs = " Blue: correct. Orange and ✗: wrong." if score is not None else ""
    below = ", and the correct answers below them" if score is not None else ""
    return Panel(
        "Answers after k iterations",
        _sequence_figure(frames[0].update, answers.iterations, count, labelled=score is not None),
        "The correct answers are not known, so the cells show only what the model would answer."
        if score is None
        else _observation(score),
        "Each row is read out from the state after k iterations; k increases downwards. Each cell shows the "
        f"most likely token.{signs} The input stands above the rows{below}. Hover for the probability. "
        f"Choose another example above.{_choice_sentence(answers, score)}",
        frames,
    )


def _cells(answers: _Answers, b: int, symbol: Any, *, counted: list[bool]) -> dict[str, Any]:
    """Values, tokens and probabilities of one example, (iteration, position); empty where a
    position doesn't count."""
    signs = ("", "✗", "")  # wrong answers are few where it matters, and cells are narrow
    cells: dict[str, list[list[Any]]] = {"z": [], "text": [], "customdata": []}
    for tokens, p, status in zip(
        *(part[:, b].tolist() for part in (answers.tokens, answers.p, answers.status)), strict=True
    ):
        columns = list(zip(tokens, status, counted, strict=True))
        cells["z"].append([s if counts else None for _, s, counts in columns])
        cells["text"].append(
            [token_label(symbol(token)) + signs[s] if counts else "" for token, s, counts in columns]
        )
        cells["customdata"].append([round(value, 3) for value in p])
    return cells


def _sequence_figure(
    update: Mapping[int, Any], iterations: list[int], positions: int, labelled: bool
) -> "go.Figure":
    scale = [[(i + edge) / 3, colour] for i, colour in enumerate(KIND_COLOURS[:3]) for edge in (0, 1)]
    figure = token_heatmap(
        "Answers after k iterations",
        update[0],
        iterations,
        positions,
        hover="k = %{y}, position %{x}: %{text} (p = %{customdata})",
        rows=update.get(1),
        zmin=-0.5,
        zmax=2.5,
        colorscale=scale,
        showscale=False,
        textfont={"color": INK, "size": 11 if positions <= 24 else 9},
    )
    for name, colour in zip(_STATUS, KIND_COLOURS, strict=False):
        if labelled:
            marker = {"color": colour, "symbol": "square", "size": 12}
            figure.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=marker, hoverinfo="skip")
    return figure


def _choice_sentence(answers: _Answers, score: RunScore | None) -> str:
    """Which examples are drawn, where they aren't the first."""
    if score is None or answers.rows == list(range(len(answers.rows))):
        return ""
    unsolved = " and ".join(str(row) for row in answers.rows if not score.solved[-1, row])
    return (
        f" Drawn are the first examples, and of those with a wrong answer at the end the first: {unsolved}."
    )


def _observation(score: RunScore) -> str:
    """How many answers are correct, over all examples of the run, as a sentence."""
    value, ks = score.mean().value.tolist(), score.iterations
    solved = score.solved[:, score.mask.any(1)].all(1).tolist()
    every = "all of them" if score.examples > 1 else "all of its answers"
    begin = "before the loop" if ks[0] == 0 else f"after {plural(ks[0], 'iteration')}"
    first = _stays_from(solved)
    if first is not None:
        place = "before the loop" if ks[first] == 0 else f"after {plural(ks[first], 'iteration')}"
        rest = f"{every} are correct {place}{' and from then on' if first + 1 < len(ks) else ''}"
    elif any(solved):
        best = ks[solved.index(True)]
        rest = f"{every} are correct after {plural(best, 'iteration')}, but not at the end"
    else:
        rest = "some are wrong after any number of iterations"
    return (
        f"Of the answers in the run's {plural(score.examples, 'example')}, {percent(value[0])} are correct "
        f"{begin} and {percent(value[-1])} after {plural(ks[-1], 'iteration')}; {rest}."
    )


def _stays_from(solved: Sequence[bool]) -> int | None:
    """The first index from which on all are true; None if the last isn't."""
    wrong = [i for i, one in enumerate(solved) if not one]
    first = wrong[-1] + 1 if wrong else 0
    return first if first < len(solved) else None
