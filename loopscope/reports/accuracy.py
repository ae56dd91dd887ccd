"""How often the answers are right: by iteration, at the length of training and beyond it."""

from typing import Any

from torch import Tensor

from .. import drawing
from ..asked import task_of
from ..drawing import Panel, label, percent
from ..errors import LoopscopeError
from ..run import Run
from .section import Section, Tile

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
    from ..training.evaluate import accuracy

    own, depth = task.options[task.dial], model.iterations
    n = max(run.iterations, min(LONGEST, max(_STRETCH) * depth))
    found = {}
    for stretch in _STRETCH:
        try:
            found[stretch * own] = accuracy(model, task, n, EXAMPLES, SEED, **{task.dial: stretch * own})
        except LoopscopeError:  # a task may not go on for ever: digits have a largest number
            break
    if not found:
        return None
    at = {
        length: float(one.positions[min(depth * length // own, one.iterations)])
        for length, one in found.items()
    }
    ran = {length: min(depth * length // own, one.iterations) for length, one in found.items()}
    tiles = [
        Tile(percent(at[length]), f"of answers right at {task.dial} {length}, after {ran[length]} iterations")
        for length in list(at)[:2]
    ]
    seen = "; ".join(
        f"{task.dial} {length}: {percent(at[length])} after {ran[length]} iterations" for length in at
    )
    panels = [
        Panel(
            "Answers right after every iteration",
            _curves({length: one.positions for length, one in found.items()}, task.dial, depth),
            f"Answers right, with iterations in proportion to the length: {seen}.",
            f"Each line is one length, on {EXAMPLES} test examples that training never saw; {own} is the length of training. "
            f"The dotted line marks the model's own depth, {depth} iterations. Chance is what the line begins with.",
        )
    ]
    longest = list(found)[min(1, len(found) - 1)]
    front = found[longest].by_position
    panels.append(
        Panel(
            f"Where the answers are right, at {task.dial} {longest}",
            _front(front, longest, task.dial),
            _spread(front),
            "Each cell is one position after so many iterations, the mean over examples. Time runs downwards: a slanted edge "
            "is an answer that spreads along the string, one iteration at a time.",
        )
    )
    return Section("accuracy", "Accuracy", 1, panels, tiles=tiles)


def _curves(curves: dict[int, Tensor], dial: str, depth: int) -> Any:
    figure = drawing.empty("Accuracy by iteration and length", "iterations run", "fraction of answers right")
    for (length, values), colour in zip(curves.items(), drawing.COLOURS, strict=False):
        name = f"{label(dial)} {length}" + (" (training)" if length == next(iter(curves)) else "")
        figure.add_scatter(
            y=[round(v, 4) for v in values.tolist()], name=name, line={"color": colour, "width": 2.5}
        )
    figure.add_vline(x=depth, line={"color": drawing.GREY, "width": 1, "dash": "dot"})
    figure.update_yaxes(range=[0, 1.03], tickformat=".0%")
    return figure


def _front(by_position: Tensor, length: int, dial: str) -> Any:
    return drawing.map_of(
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
        f"Position {a} is right in at least 95 % of the examples after {known[a]} iteration{'s' * (known[a] != 1)} and from "
        f"then on, position {b} after {known[b]}{rest}."
    )
