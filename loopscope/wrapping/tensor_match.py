"""Whether tensors are the same, hold the same numbers, or are the same memory."""

import torch
from torch import Tensor

from ..core.same_bytes import same_bytes


def same_values(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and the same numbers; NaN equals NaN."""
    if one is other:
        return True
    if same_bytes(one, other):
        return True
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    if torch.equal(one, other):  # it ends at the first number that differs
        return True
    if one.element_size() > 1 and not (_has_nan(one) and _has_nan(other)):
        return False
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def _has_nan(value: Tensor) -> bool:
    """Whether a tensor may hold a NaN, which its sum would show; a sum of infinities shows one,
    too."""
    return (value.is_floating_point() or value.is_complex()) and bool(value.sum().isnan())


def same_memory(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same numbers in memory, so that writing to one changes the
    other."""
    alike = one.shape == other.shape and one.stride() == other.stride() and one.dtype == other.dtype
    return one is other or (alike and one.numel() > 0 and one.data_ptr() == other.data_ptr())


def fresh_copy(value: Tensor, like: Tensor) -> Tensor:
    """A tensor of its own with the numbers of `value`, laid out in memory as `like`, gaps included:
    short dtypes round by it. It keeps the graph."""
    if any(step == 0 and size > 1 for size, step in zip(like.shape, like.stride(), strict=True)):
        return torch.empty_like(like).copy_(value)  # its places are one
    spread = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=like.device)
    return spread.copy_(value)


def version(tensor: Tensor) -> int | None:
    """How often a tensor was written to; None if PyTorch doesn't count that."""
    return None if tensor.is_inference() else tensor._version
