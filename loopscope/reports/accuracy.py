"""The section on accuracy: by iteration, at the length of training and beyond it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.text import level, percent, plural
from ..plots import style
from ..plots.heatmaps import position_heatmap
from ..plots.panels import Panel
from ..plots.style import label
from ..recorder.labels import task_of
from ..runs.run import Run
from ..tasks import Task
from ..training.evaluate import Accuracy, accuracy
from .section import Section, Tile

if TYPE_CHECKING:
    import plotly.graph_objects as go

EXAMPLES, SEED, LONGEST = 128, 1, 96
CORRECT = 0.95
"""Fraction of examples from which on a position counts as answered correctly."""
_STRETCH = (1, 2, 3)


def section(run: Run) -> Section | None:
    """Accuracy on fresh test examples; None for a run without a model and its task."""
    task = task_of(run)
    try:
        model = run.model
    except LoopscopeError:
        return None
    if task is None or not hasattr(model, "decode"):
        return None
    length, depth = task.options[task.difficulty_option], model.iterations
    by_length = _measure(model, task, max(run.iterations, min(LONGEST, max(_STRETCH) * depth)))
    if not by_length:
        return None
    score = task.score if task.continuous else "accuracy"
    panels = [_length_panel(by_length, task, depth, score)]
    if levels := by_length[length].by_difficulty:
        panels.append(
            Panel(
                f"{score.capitalize()} by {task.difficulty_unit}",
                _curves(_colourable(levels), task.difficulty_unit, depth, score),
                _difficulty_sentence(levels, depth, score, task.difficulty_unit),
                f"The same examples, of {task.difficulty_option} {length}, grouped by difficulty "
                f"({task.difficulty_unit}).",
            )
        )
    longer = list(by_length)[min(1, len(by_length) - 1)]
    by_position = by_length[longer].by_position
    if task.shape is None and not task.continuous and int((~by_position[0].isnan()).sum()) > 1:
        panels.append(
            Panel(
                f"Accuracy by position, at {task.difficulty_option} {longer}",
                _position_figure(by_position, longer, task.difficulty_option),
                _position_sentence(by_position),
                "Each cell is one position after k iterations, on average over examples; k increases "
                "downwards. A slanted edge is an answer that spreads along the positions as the loop runs.",
            )
        )
    tiles = [
        Tile(
            percent(value),
            f"{score if task.continuous else 'answers correct'} at {task.difficulty_option} {n}, "
            f"after {plural(k, 'iteration')}",
        )
        for n, (k, value) in list(_at_depth(by_length, length, depth).items())[:2]
    ]
    data = {
        "score": score,
        "examples": EXAMPLES,
        "depth": depth,
        "by_length": {n: one.positions for n, one in by_length.items()},
        "by_difficulty": by_length[length].by_difficulty,
        "by_position": {longer: by_position},
    }
    return Section("accuracy", "Accuracy", 1, panels, tiles=tiles, data=data)


def _measure(model: Any, task: Task, iterations: int) -> dict[int, Accuracy]:
    """By length: that of training, and its multiples as far as task and model allow them."""
    trained = task.options[task.difficulty_option]
    by_length = {}
    for stretch in _STRETCH:
        length = {task.difficulty_option: stretch * trained}
        try:
            by_length[stretch * trained] = accuracy(model, task, iterations, EXAMPLES, seed=SEED, **length)
        except LoopscopeError:  # the task, or learned positions, have a largest length
            break
    return by_length


def _at_depth(by_length: Mapping[int, Accuracy], trained: int, depth: int) -> dict[int, tuple[int, float]]:
    """By length: iterations in proportion to it, and the score after them."""
    ks = {length: min(depth * length // trained, one.iterations) for length, one in by_length.items()}
    return {length: (k, float(by_length[length].positions[k])) for length, k in ks.items()}


def _length_panel(by_length: Mapping[int, Accuracy], task: Task, depth: int, score: str) -> Panel:
    trained = task.options[task.difficulty_option]
    values = "; ".join(
        f"{task.difficulty_option} {length}: {percent(value)} after {plural(k, 'iteration')}"
        for length, (k, value) in _at_depth(by_length, trained, depth).items()
    )
    return Panel(
        f"{score.capitalize()} after k iterations",
        _curves(
            {length: one.positions for length, one in by_length.items()}, task.difficulty_option, depth, score
        ),
        f"{score.capitalize()}, with iterations in proportion to the {task.difficulty_option}: {values}.",
        f"There is one line for each value of {task.difficulty_option}, measured on {EXAMPLES} test "
        f"examples that are not in the training set; {task.difficulty_option} is {trained} in training. The "
        f"dotted line marks the model's own depth, {plural(depth, 'iteration')}. Each line begins before the "
        "first iteration, at about chance.",
    )


def _colourable(levels: dict[float, Tensor]) -> dict[float, Tensor]:
    """As many of the difficulties as there are colours, evenly spaced."""
    step = -(-len(levels) // len(style.COLOURS))
    return dict(list(levels.items())[::step])


def _difficulty_sentence(levels: dict[float, Tensor], depth: int, score: str, unit: str) -> str:
    easy, hard = min(levels), max(levels)
    first, last = (
        percent(float(levels[value][min(depth, len(levels[value]) - 1)])) for value in (easy, hard)
    )
    return (
        f"{score.capitalize()} after {plural(depth, 'iteration')}: {first} at {level(easy, unit)}, {last} "
        f"at {level(hard, unit)}."
    )


def _curves(curves: Mapping[float, Tensor], dial: str, depth: int, score: str) -> "go.Figure":
    figure = style.empty(f"{score.capitalize()} by iteration and {dial}", "iterations run", score)
    for (length, values), colour in zip(curves.items(), style.COLOURS, strict=False):
        name = label(level(length, dial))
        figure.add_scatter(
            y=[round(v, 4) for v in values.tolist()], name=name, line={"color": colour, "width": 2.5}
        )
    figure.add_vline(x=depth, line={"color": style.GREY, "width": 1, "dash": "dot"})
    low = min(0.0, *(float(values.min()) for values in curves.values()))
    figure.update_yaxes(range=[max(low, -1.0), 1.03], tickformat=".0%")
    return figure


def _position_figure(by_position: Tensor, length: int, dial: str) -> "go.Figure":
    return position_heatmap(
        [[None if v != v else round(v, 3) for v in row] for row in by_position.tolist()],
        f"Accuracy by iteration and position ({dial} {length})",
        "iterations run",
        "accuracy",
        hover="position %{x} after %{y} iterations: %{z:.1%}",
        height=440,
        zmin=0,
        zmax=1,
        bar={"tickformat": ".0%"},
    )


def _position_sentence(by_position: Tensor) -> str:
    """After how many iterations positions are correct to stay, as a sentence."""
    first: dict[int, int | None] = {}
    for p, column in enumerate(by_position.T.tolist()):
        if column[0] == column[0]:
            wrong = [k for k, value in enumerate(column) if value < CORRECT]
            correct_from = wrong[-1] + 1 if wrong else 0
            first[p] = correct_from if correct_from < len(column) else None
    reached = {p: k for p, k in first.items() if k is not None}
    if not reached:
        return f"No position is correct in {CORRECT:.0%} of the examples at the end."
    a, b = min(reached), max(reached)
    never = len(first) - len(reached)
    rest = f"; {never} of {len(first)} positions never are" if never else ""
    return (
        f"Position {a} is correct in at least {CORRECT:.0%} of the examples after "
        f"{plural(reached[a], 'iteration')} and from then on, position {b} after {reached[b]}{rest}."
    )
