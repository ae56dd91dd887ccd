"""How alike two sets of vectors are."""

import torch
from jaxtyping import Float
from torch import Tensor


def cka(x: Float[Tensor, "sample width"], y: Float[Tensor, "sample other"]) -> Float[Tensor, ""]:
    """Linear centred kernel alignment ‖Yᵀ X‖²_F / (‖Xᵀ X‖_F ‖Yᵀ Y‖_F) of centred X and Y, 0..1.

    Unchanged by rotations, shifts and one scale for all of a set; 1 for sets that differ by no
    more. NaN where one of them doesn't vary. Biased upwards where samples are few beside the width.
    Kornblith et al. 2019, arXiv 1905.00414.
    """
    x, y = _centred(x), _centred(y)
    return (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())


def cka_map(values: Float[Tensor, "item sample width"]) -> Float[Tensor, "item item"]:
    """`cka` of every pair of sets; the samples of all are the same things."""
    x = values.detach().double()
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
    own = products.diagonal().sqrt()
    return products / (own[:, None] * own)


def cosine_map(values: Float[Tensor, "item sample width"]) -> Float[Tensor, "item item"]:
    """Mean over the samples of the cosine of the two items' vectors, -1..1; a zero vector has
    cosine 0 to all."""
    x = torch.nn.functional.normalize(values.detach().double(), dim=-1, eps=1e-300)
    flat = x.flatten(1)
    return flat @ flat.T / x.shape[1]


def distance_map(values: Float[Tensor, "item sample width"]) -> Float[Tensor, "item item"]:
    """Mean over the samples of the Euclidean distance of the two items' vectors (for a matrix,
    flattened: Frobenius)."""
    x = values.detach().transpose(0, 1).double()
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").mean(0)


def _centred(x: Tensor) -> Tensor:
    x = x.detach().double()
    return x - x.mean(0, keepdim=True)
