"""ValueReads: whether a module's own code reads the values of tensors, by which it may decide how
many iterations it runs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_READING = (
    Tensor.item,
    Tensor.tolist,
    Tensor.numpy,
    Tensor.__bool__,
    Tensor.__float__,
    Tensor.__int__,
    Tensor.__index__,
    Tensor.__array__,
    Tensor.is_nonzero,
    Tensor.equal,
    Tensor.allclose,
    torch.equal,
    torch.allclose,
    torch.is_nonzero,
)


class ValueReads(TorchFunctionMode):
    """Inside the with-block, `seen` becomes True when a tensor's value is read while `during()`."""

    def __init__(self, during: Callable[[], bool]) -> None:
        super().__init__()
        self.during, self.seen = during, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen = self.seen or (func in _READING and self.during())
        return func(*args, **(kwargs or {}))
