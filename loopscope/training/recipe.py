"""A recipe: all that decides what a training run makes. Small frozen parts, and JSON for them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, get_args

from ..common.errors import LoopscopeError, nearest
from .curriculum import Curriculum
from .deep_supervision import Carried
from .depth import Depth
from .ema import Average
from .exit_losses import Exits, Gate, Stages
from .history_schedule import Schedule
from .optimiser import AdamW
from .penalty import Penalty, Ramp
from .supervision import Every, Final, Progressive
from .truncated_backprop import Full, Gradient
from .validation import counted

Supervision = Final | Every | Progressive | Exits | Gate | Stages | Carried


@dataclass(frozen=True)
class Recipe:
    """How an entry is trained. Two runs of equal recipes end in equal weights."""

    architecture: str
    task: str
    steps: int
    """Optimiser steps."""
    depth: Depth
    config: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the architecture's Config that aren't its defaults."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the task."""
    batch: int | None = 64
    """Examples in a step; None: every training example of the task, in every step."""
    seed: int = 0
    """Of the first weights and of every step."""
    gradient: Gradient = Full()
    supervision: Supervision = Final()
    curriculum: Curriculum | None = None
    penalty: Penalty | None = None
    average: Average | None = None
    history: Schedule | None = None
    """What is kept of the way there; None: nothing but the log."""
    optimiser: AdamW = AdamW()

    @property
    def segments(self) -> int:
        """How many steps are made on the same examples."""
        return self.supervision.segments if isinstance(self.supervision, Carried) else 1

    def __post_init__(self) -> None:
        counted("Recipe.steps", self.steps, least=1)
        if self.batch is not None:
            counted("Recipe.batch", self.batch, least=1)
        counted("Recipe.seed", self.seed)
        for name in (
            "config",
            "options",
        ):  # JSON knows no tuples: what it gives back must equal what it was given
            tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in getattr(self, name).items()}
            object.__setattr__(self, name, tuples)
        for name, kinds in _KINDS.items():
            part = getattr(self, name)
            if not isinstance(part, kinds):
                wanted = " or ".join(sorted(kind.__name__ for kind in kinds))
                raise LoopscopeError(f"Recipe.{name} must be {wanted}, but is {part!r}.")

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON can say it; a part tells its class under "part"."""
        return {f.name: _exact(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> "Recipe":
        """The recipe that `to_json` told."""
        known = [f.name for f in fields(cls)]
        for name in said:
            if name not in known:
                raise LoopscopeError(f"A recipe has no field {name!r}. {nearest(name, known)}")
        return cls(**{name: _part(value) for name, value in said.items()})


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
    """Where two recipes, as JSON, differ: a phrase for each field, with both values."""
    a, b = _flat(there), _flat(here)

    def told(flat: dict[str, Any], name: str) -> str:
        return repr(flat[name]) if name in flat else "absent"

    return [
        f"{name} is {told(a, name)} there and {told(b, name)} here"
        for name in dict.fromkeys([*a, *b])
        if told(a, name) != told(b, name)
    ]


def _exact(value: Any) -> Any:
    """What `_part` reads back unchanged: with the class of each part, and with infinity.

    `to_json` of results keeps neither.
    """
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
    said = dict(value)
    name = said.pop("part")
    if name not in _PARTS:
        raise LoopscopeError(f"There is no recipe part called {name!r}. {nearest(str(name), _PARTS)}")
    known = [f.name for f in fields(_PARTS[name])]
    for key in said:
        if key not in known:
            raise LoopscopeError(f"The recipe part {name} has no field {key!r}. {nearest(key, known)}")
    return _PARTS[name](**{key: _part(inner) for key, inner in said.items()})


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            flat |= _flat(inner, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = inner
    return flat
