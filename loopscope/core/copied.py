"""copied: a copy of what a caller hands over, so that neither writes to the other's."""

import copy
import random
from collections.abc import Mapping
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_HANDED_OVER = (nn.Module, FunctionType, type, torch.Generator, np.random.Generator, random.Random)


def copied(value: Any) -> Any:
    """A copy that shares no memory with `value`, of tensors inside containers and objects too.

    A copied tensor keeps its graph, so that gradients still reach the original. Modules, functions,
    random generators (whose next draw is another one) and what can't be copied are handed over as
    they are.
    """
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, tuple):
        parts = [copied(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if type(value) is list:
        return [copied(part) for part in value]
    if type(value) is dict:
        return {key: copied(part) for key, part in value.items()}
    if isinstance(value, _HANDED_OVER):
        return value
    try:
        return _copied_object(value)
    except Exception:  # what an object's own copying raises
        return value


def _copied_object(value: Any) -> Any:
    """A copy of an object, made of copies of its attributes and items."""
    if isinstance(value, Mapping) or hasattr(value, "__dataclass_fields__"):
        result = copy.copy(value)
        for name, part in vars(value).items() if hasattr(value, "__dict__") else ():
            object.__setattr__(result, name, copied(part))
        if isinstance(value, dict):
            for key, part in dict.items(value):
                dict.__setitem__(result, key, copied(part))  # pyright: ignore[reportArgumentType]
        return result
    return copy.deepcopy(value)
