"""Whether all numbers of a tensor are finite, in one pass and without a tensor as large as it."""

import torch
from torch import Tensor


def all_finite(value: Tensor) -> bool:
    """Whether no number is NaN or infinite; of whole numbers none is."""
    if value.is_complex():
        return bool(value.isfinite().all())
    return not value.is_floating_point() or all(bool(end.isfinite()) for end in _ends(value))


def has_nan(value: Tensor) -> bool:
    """Whether a real number is NaN."""
    return value.is_floating_point() and bool(_ends(value)[0].isnan())


def _ends(value: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest number; both are NaN if any number is."""
    if not value.numel():
        return value.new_zeros(()), value.new_zeros(())
    low, high = torch.aminmax(value.detach())
    return low, high
