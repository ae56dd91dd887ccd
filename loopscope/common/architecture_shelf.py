"""The shelf of architectures. An item is a module, or what stands for one, with `Config` and
`Model`, and with `RECIPES` where it has entries to train."""

import dataclasses
import re
import sys
import typing
from types import ModuleType
from typing import Any

from . import discovery
from .errors import LoopscopeError
from .shelf import Shelf, last_word, source_name

_BASE = "LoopedModule"
_MUST = "An architecture must be a file or a module with a dataclass Config and a class Model, or that class"
_ADVICE = "loopscope new model NAME writes one to start from."


def _holds(thing: Any) -> bool:
    if isinstance(thing, ModuleType):
        return hasattr(thing, "Model")
    return _is_model(thing if isinstance(thing, type) else type(thing))


def _is_model(kind: Any) -> bool:
    # By name: importing the class takes seconds, and a listing of the names needs none of them.
    return isinstance(kind, type) and any(base.__name__ == _BASE for base in kind.__mro__[1:])


def _read(thing: Any, name: str | None) -> tuple[str, Any]:
    if isinstance(thing, ModuleType):
        _check(thing)
        return name or last_word(thing.__name__), thing
    kind = thing if isinstance(thing, type) else type(thing)
    if not _is_model(kind):
        raise LoopscopeError(f"{_MUST}, but is {source_name(thing)}. {_ADVICE}")
    home = sys.modules[kind.__module__]
    if getattr(home, "Model", None) is kind and home.__name__ != "__main__":
        return _read(home, name)
    module = ModuleType(name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower())
    vars(module).update(Model=kind, Config=_config_of(kind, home), __doc__=kind.__doc__)
    _check(module)
    return module.__name__, module


def _config_of(kind: Any, home: ModuleType) -> Any:
    """The class of a model's configuration: as the first argument of its constructor declares it,
    else `Config` of its module."""
    try:
        hints = typing.get_type_hints(kind.__init__)
    except NameError:
        hints = {}
    declared = next((hint for name, hint in hints.items() if name != "return"), None)
    return declared if dataclasses.is_dataclass(declared) else getattr(home, "Config", None)


def _check(module: ModuleType) -> None:
    model, config = getattr(module, "Model", None), getattr(module, "Config", None)
    missing = ""
    if not _is_model(model):
        missing = f"no class Model that inherits from loopscope.nn.{_BASE}"
    elif not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        missing = "no dataclass Config"
    if missing:
        raise LoopscopeError(f"{_MUST}, but {source_name(module)} has {missing}. {_ADVICE}")


ARCHITECTURES = Shelf(
    "architecture",
    "loopscope.models",
    ours=lambda: discovery.names("models"),
    load=lambda name: discovery.module("models", name),
    holds=_holds,
    read=_read,
)


def architecture_name(model: Any) -> str:
    """The name of a model's architecture, which is on the shelf from now on."""
    return ARCHITECTURES.place(type(model))
