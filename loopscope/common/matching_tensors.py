"""Whether the tensors of a file are those that a model has: their names, shapes and types."""

from collections.abc import Mapping

import torch
from torch import Tensor


def first_misfit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """In words, the first tensor that is missing, superfluous or of another shape or type; empty if
    all fit. A tensor may be in float32 where another type is expected, as exported files have
    it."""
    for name, like in expected.items():
        if name not in tensors:
            return f"{name} is missing"
        value = tensors[name]
        if value.shape != like.shape:
            return f"{name} must have the shape {tuple(like.shape)}, but has {tuple(value.shape)}"
        if value.dtype not in (like.dtype, torch.float32):
            return f"{name} must be of {like.dtype}, but is of {value.dtype}"
    superfluous = [name for name in tensors if name not in expected]
    return f"there is a {superfluous[0][:80]!r} too many" if superfluous else ""
