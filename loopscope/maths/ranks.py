"""Ranks of numbers, for correlations of Spearman's kind."""

from jaxtyping import Float, Shaped
from torch import Tensor


def centred_ranks(values: Shaped[Tensor, " item"]) -> Float[Tensor, " item"]:
    """Ranks less their mean; equal values have the mean of their ranks. In double precision."""
    _, index, count = values.unique(return_inverse=True, return_counts=True)
    rank = (count.cumsum(0) - count / 2)[index].double()
    return rank - rank.mean()
