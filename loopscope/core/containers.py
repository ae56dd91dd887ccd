"""map_parts: a container again, with other parts."""

import copy
from collections.abc import Callable, Mapping
from typing import Any


def is_container(value: Any) -> bool:
    """Whether a value has parts that `map_parts` changes: a tuple, a list, a mapping, or a
    dataclass's object."""
    if isinstance(value, type):
        return False
    return type(value) is list or isinstance(value, tuple | Mapping) or hasattr(value, "__dataclass_fields__")


def map_parts(value: Any, change: Callable[[Any], Any]) -> Any:
    """A container of the same kind, made of what `change` returns for each part of this one."""
    if isinstance(value, tuple):
        parts = [change(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if type(value) is list:
        return [change(part) for part in value]
    if type(value) is dict:
        return {key: change(part) for key, part in value.items()}
    result = copy.copy(value)
    for name, part in vars(value).items() if hasattr(value, "__dict__") else ():
        object.__setattr__(result, name, change(part))
    if isinstance(value, dict):
        for key, part in dict.items(value):
            dict.__setitem__(result, key, change(part))  # pyright: ignore[reportArgumentType]
    return result
