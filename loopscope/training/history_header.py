"""The header of a history, and what must hold of it and of its weights."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..common.checked_fields import Count, Number, checked_fields
from ..common.errors import LoopscopeError
from ..common.user_files import stored_name

REMEDY = "Take another copy, or train it again."


@dataclass(frozen=True)
class StoredCurves:
    """What was measured on one set of examples, after k = 0..n iterations."""

    loss: list[Number]
    accuracy: list[Number]


@dataclass(frozen=True)
class StoredLine:
    """One look."""

    step: Count
    sets: dict[str, StoredCurves]
    norm: Number


@dataclass(frozen=True)
class StoredRecipe:
    """What is needed of a recipe to build the model and the task."""

    architecture: str
    task: str
    options: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HistoryHeader:
    """The header."""

    entry: str
    recipe: StoredRecipe
    config: dict[str, Any]
    lines: list[StoredLine]


def check_history(what: str, header: Mapping[str, Any], weights: Iterable[str]) -> None:
    """Check a history's header, and the names of its weights, "STEP/NAME".

    Raises:
        LoopscopeError: something is missing, of a wrong type, or doesn't belong together.
    """
    about = checked_fields(HistoryHeader, dict(header), what, REMEDY)
    for name in (about.recipe.architecture, about.recipe.task):
        stored_name(name, what)
    if why := _misfit(about.lines, weights):
        raise LoopscopeError(f"{what} must hold the whole history of a training, but {why}. {REMEDY}")


def _misfit(lines: list[StoredLine], weights: Iterable[str]) -> str:
    if not lines or not lines[0].sets:
        return "holds no look"
    steps = [line.step for line in lines]
    if any(a >= b for a, b in zip(steps, steps[1:], strict=False)):
        return "its looks are in no order"
    length = {
        len(curve) for line in lines for one in line.sets.values() for curve in (one.loss, one.accuracy)
    }
    if len(length) > 1 or 0 in length or any(line.sets.keys() != lines[0].sets.keys() for line in lines):
        return "its looks are not of the same sets and iterations"
    for name in weights:
        step, slash, rest = name.partition("/")
        if not (slash and rest and step.isdecimal() and step.isascii() and int(step) in steps):
            return f"{name[:80]!r} are no weights of one of its looks"
    return ""
