"""Means over the positions that count."""

import torch
from jaxtyping import Bool
from torch import Tensor


def masked_mean(x: Tensor, mask: Bool[Tensor, "..."], dim: int | tuple[int, ...]) -> Tensor:
    """The mean of the values where `mask` is True; NaN where it is True nowhere.

    What stands elsewhere has no influence, even if it is NaN or infinite.

    Arguments:
        mask: broadcasts to the shape of `x`.
        dim: the axes that the mean is over.
    """
    mask = mask.to(x.device)
    if bool(mask.all()):
        return x.mean(dim)
    mask = mask.expand_as(x)
    count = mask.sum(dim)
    total = torch.where(mask, x, torch.zeros_like(x)).sum(dim)
    return torch.where(count > 0, total / count.clamp(min=1), torch.nan)
