"""Whether tensors are the same, hold the same numbers, or are the same memory."""

import torch
from torch import Tensor


def same_values(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and the same numbers; NaN equals NaN."""
    if one is other:
        return True
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    return torch.equal(one, other) or bool(((one == other) | (one.isnan() & other.isnan())).all())


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
