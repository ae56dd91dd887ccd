"""Similarity of sets of vectors: linear CKA, cosines and distances."""

import math
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.arguments import FINITE
from ..common.guard import guarded
from .precision import are_alike


@guarded
def cka(
    x: Annotated[Float[Tensor, "sample width"], FINITE], y: Annotated[Float[Tensor, "sample other"], FINITE]
) -> Float[Tensor, ""]:
    """Linear centred kernel alignment ‖Yᵀ X‖²_F / (‖Xᵀ X‖_F ‖Yᵀ Y‖_F) of centred X and Y, 0..1.

    Invariant to rotations, shifts and a common scale of either set: 1 for sets that differ only by
    these. NaN where one of them doesn't vary by more than rounding in its dtype. Biased upwards
    where there are few samples for the width. Kornblith et al. 2019, arXiv 1905.00414.

    >>> x = torch.randn(100, 5)
    >>> cka(x, 3 * x + 1)
    tensor(1.0000, dtype=torch.float64)
    """
    alike = are_alike(x) | are_alike(y)
    x, y = _centred(x), _centred(y)
    result = (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())
    return result.masked_fill(alike, math.nan)


@guarded
def cka_map(values: Annotated[Float[Tensor, "item sample width"], FINITE]) -> Float[Tensor, "item item"]:
    """`cka` of every pair of sets. Sample i is the same object in all sets."""
    x, alike = values.detach().double(), are_alike(values)
    x = x - x.mean(1, keepdim=True)
    items, samples, width = x.shape
    if width <= samples:
        flat = x.transpose(0, 1).reshape(samples, items * width)
        products = (
            (flat.T @ flat).square().unflatten(0, (items, width)).unflatten(2, (items, width)).sum((1, 3))
        )
    else:
        grams = (x @ x.mT).flatten(1)
        products = grams @ grams.T
    norms = products.diagonal().sqrt()
    return (products / (norms[:, None] * norms)).masked_fill(alike[:, None] | alike, math.nan)


@guarded
def cosine_map(values: Float[Tensor, "item sample width"]) -> Float[Tensor, "item item"]:
    """Cosine of the vectors of two items, on average over the samples, -1..1; a zero vector has
    cosine 0 to all.

    >>> cosine_map(torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]]))
    tensor([[1., 0.],
            [0., 1.]], dtype=torch.float64)
    """
    x = torch.nn.functional.normalize(values.detach().double(), dim=-1, eps=1e-300)
    flat = x.flatten(1)
    return flat @ flat.T / x.shape[1]


@guarded
def distance_map(values: Annotated[Float[Tensor, "item sample width"], FINITE]) -> Float[Tensor, "item item"]:
    """Euclidean distance of the vectors of two items, on average over the samples (of flattened
    matrices: the Frobenius norm).

    >>> distance_map(torch.tensor([[[0.0, 0.0]], [[3.0, 4.0]]]))
    tensor([[0., 5.],
            [5., 0.]], dtype=torch.float64)
    """
    x = values.detach().transpose(0, 1).double()
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").mean(0)


def _centred(x: Tensor) -> Tensor:
    x = x.detach().double()
    return x - x.mean(0, keepdim=True)
