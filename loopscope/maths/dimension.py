"""The dimension of a cloud of vectors: participation ratio and effective rank."""

import math
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.arguments import FINITE
from ..common.guard import guarded
from .precision import are_alike


def variances(x: Float[Tensor, "... sample width"], centre: bool = True) -> Float[Tensor, "... direction"]:
    """The variances along the principal directions, largest first: eigenvalues of the covariance.
    `direction` is the smaller of samples and width."""
    x = x.detach().double()
    x = x - x.mean(-2, keepdim=True) if centre else x
    return torch.linalg.svdvals(x).square() / x.shape[-2]


@guarded
def participation_ratio(
    x: Annotated[Float[Tensor, "... sample width"], FINITE], centre: bool = True
) -> Float[Tensor, "..."]:
    """(sum λ)² / sum λ² of the covariance's eigenvalues: n for a cloud that fills n directions
    equally, 1 for a line, NaN for a point (vectors equal to rounding
    in their dtype). At most the number of samples, so that few samples bound
    it.

    >>> participation_ratio(torch.eye(4), centre=False)
    tensor(4., dtype=torch.float64)
    """
    return _unless_point(effective_dimensions(variances(x, centre))[0], x, centre)


@guarded
def effective_rank(
    x: Annotated[Float[Tensor, "... sample width"], FINITE], centre: bool = True
) -> Float[Tensor, "..."]:
    """exp of the entropy of λ / sum λ of the covariance's eigenvalues: like the participation
    ratio, but small directions weigh more. NaN for a point. Roy & Vetterli 2007.

    >>> effective_rank(torch.eye(4), centre=False)
    tensor(4., dtype=torch.float64)
    """
    return _unless_point(effective_dimensions(variances(x, centre))[1], x, centre)


def _unless_point(dimensions: Tensor, x: Tensor, centre: bool) -> Tensor:
    return dimensions.masked_fill(are_alike(x), math.nan) if centre else dimensions


def effective_dimensions(
    variance: Float[Tensor, "... direction"],
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """(participation ratio, effective rank) of variances along orthogonal directions."""
    share = variance / variance.sum(-1, keepdim=True)
    return 1 / share.square().sum(-1), torch.special.entr(share).sum(-1).exp()
