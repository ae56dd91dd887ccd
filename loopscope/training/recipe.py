"""Recipes: everything that determines a training, as small frozen parts that convert to JSON."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from ..common.architecture_shelf import ARCHITECTURES
from ..common.checked_fields import is_json_of
from ..common.errors import LoopscopeError, nearest
from ..common.user_files import is_path, stored_name
from ..tasks import Task
from ..tasks.shelf import TASKS
from .chain_supervision import Aligned
from .curriculum import Curriculum
from .deep_supervision import DeepSupervision
from .depth import Depth
from .ema import Average
from .exit_losses import Exits, Gate, Stages
from .history_schedule import Schedule
from .optimiser import AdamW
from .penalty import Penalty, Ramp
from .supervision import Every, Final, Progressive
from .truncated_backprop import Full, Gradient
from .validation import check_count

Supervision = Final | Every | Progressive | Aligned | Exits | Gate | Stages | DeepSupervision


@dataclass(frozen=True)
class Recipe:
    """How an entry is trained. Trainings by equal recipes end in equal weights.

    >>> Recipe(architecture=Model, task=RunningMaximum(length=8), steps=500, depth=Fixed(8))

    An architecture or a task of your own is passed as its class, or as the path of its file; the
    recipe keeps its name, and the shelf has it in this process. So is a task with its options, or a
    model, whose configuration is taken.
    """

    architecture: str | Any
    """Its name."""
    task: str | Any
    """Its name."""
    steps: int
    """Optimiser steps."""
    depth: Depth
    config: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the architecture's Config that differ from the defaults."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the task."""
    batch: int | None = 64
    """Examples per step; None: all training examples of the task in every step."""
    seed: int = 0
    """Of the initial weights and of every step."""
    gradient: Gradient = Full()
    supervision: Supervision = Final()
    curriculum: Curriculum | None = None
    penalty: Penalty | None = None
    average: Average | None = None
    history: Schedule | None = None
    """When the model is measured and its weights are kept; None: only the log is kept."""
    optimiser: AdamW = AdamW()

    @property
    def segments(self) -> int:
        """Number of optimiser steps on the same examples."""
        return self.supervision.segments if isinstance(self.supervision, DeepSupervision) else 1

    def __post_init__(self) -> None:
        check_count("Recipe.steps", self.steps, least=1)
        if self.batch is not None:
            check_count("Recipe.batch", self.batch, least=1)
        check_count("Recipe.seed", self.seed)
        self._name_parts()
        for name in ("config", "options"):  # a recipe from JSON, which has no tuples, must be equal
            tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in getattr(self, name).items()}
            object.__setattr__(self, name, tuples)
        for name, kinds in _KINDS.items():
            part = getattr(self, name)
            if not isinstance(part, kinds):
                expected = " or ".join(sorted(kind.__name__ for kind in kinds))
                raise LoopscopeError(f"Recipe.{name} must be {expected}, but is {part!r}.")

    def _name_parts(self) -> None:
        """Names in place of an architecture or a task that is passed as an object or a path."""
        model, task = self.architecture, self.task
        if is_dataclass(config := getattr(model, "config", None)) and not isinstance(model, type):
            object.__setattr__(self, "config", {**vars(config), **self.config})
        if isinstance(task, Task):
            object.__setattr__(self, "options", {**task.options, **self.options})
        for name, shelf in (("architecture", ARCHITECTURES), ("task", TASKS)):
            thing = getattr(self, name)
            if not _is_name(thing):  # a name is looked up when it is needed
                object.__setattr__(self, name, shelf.place(thing))

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON; the key "part" holds the class of a part."""
        return {f.name: _exact(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe that `to_json` converted.

        Raises:
            LoopscopeError: a field or a part has an unknown name, is missing, or is of another
                type.
        """
        if not isinstance(values, Mapping):
            raise LoopscopeError(f"A recipe must be a table of its fields, but is {str(values)[:80]!r}.")
        for name in ("architecture", "task"):
            thing = values.get(name, "")
            if not isinstance(thing, str):
                raise LoopscopeError(
                    f"A recipe must have the name of its {name}, but has {str(thing)[:80]!r}. Correct it."
                )
            stored_name(thing, "A recipe")
        return _built(cls, "A recipe", values)


_KINDS: dict[str, tuple[type, ...]] = {
    "depth": get_args(Depth),
    "gradient": get_args(Gradient),
    "supervision": get_args(Supervision),
    "curriculum": (*get_args(Curriculum), type(None)),
    "penalty": (Ramp, type(None)),
    "average": (Average, type(None)),
    "history": (Schedule, type(None)),
    "optimiser": (AdamW,),
}
_PARTS: dict[str, type] = {
    part.__name__: part for parts in _KINDS.values() for part in parts if part is not type(None)
}


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The fields in which two recipes, as JSON, differ: a phrase for each, with both values."""
    a, b = _flat(there), _flat(here)

    def text(flat: dict[str, Any], name: str) -> str:
        return repr(flat[name]) if name in flat else "absent"

    return [
        f"{name} is {text(a, name)} there and {text(b, name)} here"
        for name in dict.fromkeys([*a, *b])
        if text(a, name) != text(b, name)
    ]


def _is_name(thing: Any) -> bool:
    return isinstance(thing, str) and not is_path(thing)


def _exact(value: Any) -> Any:
    """JSON from which `_part` restores an equal value: with the class of each part, and with
    infinity, unlike `common.to_json`."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            "part": type(value).__name__,
            **{f.name: _exact(getattr(value, f.name)) for f in fields(value)},
        }
    if isinstance(value, Mapping):
        return {str(k): _exact(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_exact(v) for v in value]
    return value


def _part(value: Any) -> Any:
    if not isinstance(value, Mapping) or "part" not in value:
        return value
    arguments = dict(value)
    name = arguments.pop("part")
    if not isinstance(name, str) or name not in _PARTS:
        raise LoopscopeError(f"There is no recipe part called {name!r}. {nearest(str(name), _PARTS)}")
    return _built(_PARTS[name], f"The recipe part {name}", arguments)


def _built(kind: Any, what: str, values: Mapping[str, Any]) -> Any:
    """A recipe or a part of one, from its fields as JSON."""
    declared = {f.name: f for f in fields(kind)}
    for key in values:
        if key not in declared:
            raise LoopscopeError(f"{what} has no field {key!r}. {nearest(str(key), declared)}")
    for key, one in declared.items():
        if key not in values and one.default is MISSING and one.default_factory is MISSING:
            raise LoopscopeError(f"{what} must have the field {key!r}, but hasn't. Add it.")
    arguments = {key: _part(value) for key, value in values.items()}
    try:
        built, problem = kind(**arguments), None
    except (TypeError, AttributeError, ArithmeticError, LookupError) as error:
        built, problem = None, error
    for key, value in values.items():
        is_part = isinstance(value, Mapping) and "part" in value
        if not is_part and not is_json_of(_types(kind)[key], value):
            received = str(value)[:80]
            raise LoopscopeError(f"{what} must have a {key} of {declared[key].type}, but has {received!r}.")
    if problem is not None:
        raise LoopscopeError(f"{what} must have fields that fit, but: {problem}.") from problem
    return built


@cache
def _types(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            flat |= _flat(inner, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = inner
    return flat
