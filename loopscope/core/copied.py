"""copied: a copy of what a caller hands over, so that neither writes to the other's."""

import copy
import random
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .containers import is_container, map_parts

_HANDED_OVER = (nn.Module, FunctionType, type, torch.Generator, np.random.Generator, random.Random)


def copied(value: Any) -> Any:
    """A copy that shares no memory with `value`, of tensors inside containers and objects too.

    A copied tensor keeps its graph, so that gradients still reach the original. Modules, functions,
    random generators (whose next draw is another one) and what can't be copied are handed over as
    they are.
    """
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, _HANDED_OVER):
        return value
    try:
        return map_parts(value, copied) if is_container(value) else copy.deepcopy(value)
    except Exception:  # what an object's own copying raises
        return value
