"""Similarity of sets of vectors: linear CKA, cosines and distances."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.arguments import FINITE
from ..common.guard import guarded
from .precision import are_alike

BLOCK = 1 << 27
"""Bytes of the largest tensor that a map is computed from at a time."""


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
    """`cka` of every pair of sets. Sample i is the same object in all sets.

    ‖Yᵀ X‖²_F is the inner product of the Gram matrices X Xᵀ and Y Yᵀ. It is computed from these or
    from the features' products, whichever takes fewer operations, BLOCK bytes at a time.
    """
    if not len(values):
        return torch.zeros(0, 0, dtype=torch.float64, device=values.device)
    return cka_of_sets(list(values.detach()))


def cka_of_sets(sets: Sequence[Float[Tensor, "sample width"]]) -> Float[Tensor, "item item"]:
    """`cka_map` of one set or more that are read when they are needed, each several times."""
    alike = torch.stack([are_alike(sets[i]) for i in range(len(sets))])
    items, (samples, width) = len(sets), sets[0].shape
    by_features = items * width**2 < samples * (items + width)
    products = _feature_products(sets) if by_features else _gram_products(sets)
    norms = products.diagonal().sqrt()
    return (products / (norms[:, None] * norms)).masked_fill(alike[:, None] | alike, math.nan)


def _gram_products(x: Sequence[Float[Tensor, "sample width"]]) -> Float[Tensor, "item item"]:
    """Inner products of the centred sets' Gram matrices, some of their rows at a time. Of each pair
    of samples one entry is computed, which counts twice."""
    items, device = len(x), x[0].device
    samples = len(x[0])
    result = torch.zeros(items, items, dtype=torch.float64, device=device)
    step = _fitting(items * samples)
    for first in range(0, samples, step):
        last = min(first + step, samples)
        part = torch.empty(items, last - first, samples - first, dtype=torch.float64, device=device)
        for i in range(items):
            one = _centred(x[i])
            torch.mm(one[first:last], one[first:].T, out=part[i])
        part[:, :, last - first :] *= math.sqrt(2)
        flat = part.flatten(1)
        result.addmm_(flat, flat.T)
    return result


def _feature_products(x: Sequence[Float[Tensor, "sample width"]]) -> Float[Tensor, "item item"]:
    """The same from the products of the centred sets' features, some sets at a time."""
    items, (samples, width) = len(x), x[0].shape
    result = torch.zeros(items, items, dtype=torch.float64, device=x[0].device)
    step = max(1, min(math.isqrt(BLOCK // 8) // width, _fitting(samples * width)))
    starts = range(0, items, step)
    for first in starts:
        rows = _side_by_side(x, range(first, min(first + step, items)))
        for other in starts[first // step :]:
            others = range(other, min(other + step, items))
            columns = rows if other == first else _side_by_side(x, others)
            sizes = (rows.shape[1] // width, width), (columns.shape[1] // width, width)
            product = (rows.T @ columns).square_().unflatten(0, sizes[0]).unflatten(2, sizes[1]).sum((1, 3))
            result[first : first + step, other : other + step] = product
            result[other : other + step, first : first + step] = product.T
    return result


def _side_by_side(
    x: Sequence[Float[Tensor, "sample width"]], numbers: range
) -> Float[Tensor, "sample feature"]:
    """Some of the sets, centred, as the columns of one matrix."""
    return torch.cat([_centred(x[i]) for i in numbers], 1)


@guarded
def cosine_map(values: Float[Tensor, "item sample width"]) -> Float[Tensor, "item item"]:
    """Cosine of the vectors of two items, on average over the samples, -1..1; a zero vector has
    cosine 0 to all.

    >>> cosine_map(torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]]))
    tensor([[1., 0.],
            [0., 1.]], dtype=torch.float64)
    """
    items, samples, width = values.shape
    result = torch.zeros(items, items, dtype=torch.float64, device=values.device)
    for part in values.detach().split(_fitting(items * width), 1):
        flat = torch.nn.functional.normalize(part.double(), dim=-1, eps=1e-300).flatten(1)
        result.addmm_(flat, flat.T)
    return result / samples


@guarded
def distance_map(values: Annotated[Float[Tensor, "item sample width"], FINITE]) -> Float[Tensor, "item item"]:
    """Euclidean distance of the vectors of two items, on average over the samples (of flattened
    matrices: the Frobenius norm).

    >>> distance_map(torch.tensor([[[0.0, 0.0]], [[3.0, 4.0]]]))
    tensor([[0., 5.],
            [5., 0.]], dtype=torch.float64)
    """
    items, samples, width = values.shape
    result = torch.zeros(items, items, dtype=torch.float64, device=values.device)
    for part in values.detach().split(_fitting(items * max(items, width)), 1):
        x = part.transpose(0, 1).double()
        result += torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sum(0)
    return result / samples


def _fitting(numbers: int) -> int:
    """How many times so many numbers in double precision fit into a block, at least once."""
    return max(1, BLOCK // (8 * max(1, numbers)))


def _centred(x: Tensor) -> Tensor:
    x = x.detach().double()
    return x - x.mean(0, keepdim=True)
