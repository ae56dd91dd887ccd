"""The shelf of adapters of the user and of packages: by name of a model's class, the function or
class that makes the adapter of such a model. Ours are in `loopscope.adapters.FAMILIES`."""

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..common.errors import LoopscopeError
from ..common.shelf import Shelf, source_name

_MUST = (
    "An adapter must be a subclass of loopscope.adapters.base.Adapter, or a file with one, that names the "
    "class of the models it is for"
)
_ADVICE = 'Write e.g. model_class = "TheirModel" in it; loopscope new adapter NAME writes one to start from.'


def _is_adapter(thing: Any) -> bool:
    # By name: the class itself imports this folder.
    return isinstance(thing, type) and any(base.__name__ == "Adapter" for base in thing.__mro__[1:])


def _within(module: ModuleType) -> list[Any]:
    return [one for one in vars(module).values() if _is_adapter(one) and one.__module__ == module.__name__]


def _holds(thing: Any) -> bool:
    return bool(_within(thing)) if isinstance(thing, ModuleType) else _is_adapter(thing)


def _read(thing: Any, name: str | None) -> tuple[str, Callable[[Any], Any]]:
    adapters = _within(thing) if isinstance(thing, ModuleType) else [thing] if _is_adapter(thing) else []
    if len(adapters) != 1:
        several = ", ".join(one.__name__ for one in adapters)
        raise LoopscopeError(
            f"{_MUST}, but {source_name(thing)} {f'has {several}' if several else 'is none'}. {_ADVICE}"
        )
    (adapter,) = adapters
    if inspect.isabstract(adapter) or not isinstance(adapter.model_class, str) or not adapter.model_class:
        raise LoopscopeError(f"{_MUST}, but {adapter.__name__} has {adapter.model_class!r}. {_ADVICE}")
    return adapter.model_class, adapter


ADAPTERS = Shelf(
    "adapter", "loopscope.adapters", ours=lambda: (), load=lambda name: None, holds=_holds, read=_read
)
