"""copied: a copy of what a caller hands over, so that neither writes to the other's."""

import copy
import random
import sys
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from .containers import is_container, map_parts

_HANDED_OVER = (nn.Module, FunctionType, type, torch.Generator, random.Random)


def copied(value: Any) -> Any:
    """A copy that shares no memory with `value`, of tensors inside containers and objects too.

    A copied tensor keeps its graph, so that gradients still reach the original. Modules, functions,
    random generators (whose next draw is another one) and what can't be copied are handed over as
    they are.
    """
    if isinstance(value, Tensor):
        return value.clone()
    # Whoever has such a generator has imported its package.
    generator = getattr(sys.modules.get("numpy.random"), "Generator", torch.Generator)
    if isinstance(value, (*_HANDED_OVER, generator)):
        return value
    try:
        return map_parts(value, copied) if is_container(value) else copy.deepcopy(value)
    except Exception:  # what an object's own copying raises
        return value
