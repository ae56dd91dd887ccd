"""Ranks of numbers, for correlations of Spearman's kind."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def centred_ranks(values: Shaped[Tensor, " item"]) -> Float[Tensor, " item"]:
    """Ranks less their mean; equal values have the mean of their ranks. In double precision."""
    from scipy.stats import rankdata

    ranks = torch.from_numpy(rankdata(values.numpy())).double()
    return ranks - ranks.mean()
