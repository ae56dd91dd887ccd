"""whole_gradients: derivatives of the whole map, also where a module's own forward stops them.

Looped models train on their last iterations only: the others run under `torch.no_grad()`, or on a
detached state. The derivative of an iteration is a property of the map, and not of how it trains.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_DETACH = (Tensor.detach, torch.detach)


class WholeGradients(TorchFunctionMode):
    """Inside the with-block, this thread passes over `torch.no_grad()` and `detach()`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._C._set_grad_enabled:
            return None
        if func in _DETACH:
            return args[0].view_as(args[0])
        return func(*args, **(kwargs or {}))
