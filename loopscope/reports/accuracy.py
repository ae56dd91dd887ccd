"""How often the answers are right: by iteration, at the length of training and beyond it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.text import percent
from ..plots import style
from ..plots.panels import Panel
from ..plots.style import label
from ..recorder.labels import task_of
from ..runs.run import Run
from ..tasks import Task
from .section import Section, Tile

if TYPE_CHECKING:
    from ..training.evaluate import Accuracy
from ..plots.heatmaps import map_of

EXAMPLES, SEED, LONGEST = 128, 1, 96
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
    own, depth = task.options[task.difficulty_option], model.iterations
    lengths = _measured(model, task, max(run.iterations, min(LONGEST, max(_STRETCH) * depth)))
    if not lengths:
        return None
    what = "answers right" if not task.continuous else task.score
    panels = [_lengths_panel(lengths, task, depth, what)]
    if levels := lengths[own].by_difficulty:
        panels.append(
            Panel(
                f"By {task.difficulty_unit}",
                _curves(_some(levels), task.difficulty_unit, depth, what),
                _harder(levels, depth, what, task.difficulty_unit),
                f"The same examples of {task.difficulty_option} {own}, by how hard they are.",
            )
        )
    longest = list(lengths)[min(1, len(lengths) - 1)]
    front = lengths[longest].by_position
    if task.shape is None and not task.continuous and int((~front[0].isnan()).sum()) > 1:
        panels.append(
            Panel(
                f"Where the answers are right, at {task.difficulty_option} {longest}",
                _front(front, longest, task.difficulty_option),
                _spread(front),
                "Each cell is one position after so many iterations, the mean over examples. Time runs "
                "downwards: a slanted edge is an answer that spreads along the string, one iteration at a "
                "time.",
            )
        )
    tiles = [
        Tile(
            percent(score),
            f"{'of ' * (not task.continuous)}{what} at {task.difficulty_option} {length}, after {k} iterations",
        )
        for length, (k, score) in list(_at_depth(lengths, own, depth).items())[:2]
    ]
    return Section("accuracy", "Accuracy", 1, panels, tiles=tiles)


def _measured(model: Any, task: Task, iterations: int) -> dict[int, "Accuracy"]:
    """By length: that of training, and its multiples as far as task and model go."""
    from ..training.evaluate import accuracy

    own = task.options[task.difficulty_option]
    lengths = {}
    for stretch in _STRETCH:
        length = {task.difficulty_option: stretch * own}
        try:
            lengths[stretch * own] = accuracy(model, task, iterations, EXAMPLES, seed=SEED, **length)
        except LoopscopeError:  # neither a task nor learned positions go on for ever
            break
    return lengths


def _at_depth(lengths: Mapping[int, "Accuracy"], own: int, depth: int) -> dict[int, tuple[int, float]]:
    """By length: iterations in proportion to it, and the score after them."""
    ran = {length: min(depth * length // own, one.iterations) for length, one in lengths.items()}
    return {length: (k, float(lengths[length].positions[k])) for length, k in ran.items()}


def _lengths_panel(lengths: Mapping[int, "Accuracy"], task: Task, depth: int, what: str) -> Panel:
    own = task.options[task.difficulty_option]
    seen = "; ".join(
        f"{task.difficulty_option} {length}: {percent(score)} after {k} iterations"
        for length, (k, score) in _at_depth(lengths, own, depth).items()
    )
    return Panel(
        f"{what.capitalize()} after every iteration",
        _curves(
            {length: one.positions for length, one in lengths.items()}, task.difficulty_option, depth, what
        ),
        f"{what.capitalize()}, with iterations in proportion to the {task.difficulty_option}: {seen}.",
        f"Each line is one {task.difficulty_option}, on {EXAMPLES} test examples that training never saw; {own} is that "
        f"of training. The dotted line marks the model's own depth, {depth} iterations. Chance is what the "
        "line begins with.",
    )


def _some(levels: dict[float, Tensor]) -> dict[float, Tensor]:
    """As many of the difficulties as there are colours, evenly."""
    step = -(-len(levels) // len(style.COLOURS))
    return dict(list(levels.items())[::step])


def _harder(levels: dict[float, Tensor], depth: int, what: str, unit: str) -> str:
    easy, hard = min(levels), max(levels)
    first, last = (
        percent(float(levels[level][min(depth, len(levels[level]) - 1)])) for level in (easy, hard)
    )
    return f"{what.capitalize()} after {depth} iterations: {first} where {unit} is {easy:g}, {last} where it is {hard:g}."


def _curves(curves: Mapping[float, Tensor], dial: str, depth: int, what: str) -> Any:
    figure = style.empty(
        f"{what.capitalize()} by iteration and {dial}", "iterations run", f"fraction of {what}"
    )
    for (length, values), colour in zip(curves.items(), style.COLOURS, strict=False):
        name = f"{label(dial)} {length:g}"
        figure.add_scatter(
            y=[round(v, 4) for v in values.tolist()], name=name, line={"color": colour, "width": 2.5}
        )
    figure.add_vline(x=depth, line={"color": style.GREY, "width": 1, "dash": "dot"})
    low = min(0.0, *(float(values.min()) for values in curves.values()))
    figure.update_yaxes(range=[max(low, -1.0), 1.03], tickformat=".0%")
    return figure


def _front(by_position: Tensor, length: int, dial: str) -> Any:
    return map_of(
        [[None if v != v else round(v, 3) for v in row] for row in by_position.tolist()],
        f"Accuracy by iteration and position ({label(dial)} {length})",
        "iterations run",
        "fraction right",
        hover="position %{x} after %{y} iterations: %{z:.1%}",
        height=440,
        zmin=0,
        zmax=1,
        bar={"tickformat": ".0%"},
    )


def _spread(by_position: Tensor) -> str:
    """When each position comes to be right, as a sentence."""
    first = {}
    for p, column in enumerate(by_position.T.tolist()):
        if column[0] == column[0]:
            wrong = [k for k, value in enumerate(column) if value < 0.95]
            first[p] = (wrong[-1] + 1 if wrong else 0) if not wrong or wrong[-1] + 1 < len(column) else None
    known = {p: k for p, k in first.items() if k is not None}
    never = len(first) - len(known)
    if not known:
        return "No position is answered right in 95 % of the examples to the end."
    a, b = min(known), max(known)
    rest = f"; {never} of {len(first)} positions never are" if never else ""
    return (
        f"Position {a} is right in at least 95 % of the examples after {known[a]} "
        f"iteration{'s' * (known[a] != 1)} and from then on, position {b} after {known[b]}{rest}."
    )
