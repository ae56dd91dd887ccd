"""Measures of attention patterns: where attention concentrates, and how much it mixes.

A pattern is (..., query, key) with rows that sum to one. Sources: ColSum concentration,
Queipo-de-Llano et al. 2025; sinks, Gu et al. 2024 (arXiv 2410.10781); both as used on loops by
Blayney et al. 2026 (arXiv 2604.11791).
"""

import math
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..common.arguments import FINITE, Index, PositiveCount
from ..common.errors import LoopscopeIndexError
from ..common.guard import guarded

SINK = 0.3
"""A key with this share of all attention is a sink."""


@guarded
def concentration(pattern: Annotated[Float[Tensor, "... query key"], FINITE]) -> Float[Tensor, "..."]:
    """ColSum concentration C = 1 - H(c) / ln T, with c_j = mean over the queries of A_ij: 1 if all
    attend to one key, 0 if all keys get the same. c must sum to one: with sums over the queries in
    place of means C isn't between 0 and 1. Queipo-de-Llano et al. 2025.

    >>> concentration(torch.full((4, 4), 1 / 4))
    tensor(0.)

    The causal mask by itself gives more than 0: compare with `concentration(causal(T))`.
    """
    keys = pattern.shape[-1]
    if keys == 1:
        return torch.ones_like(pattern[..., 0, 0])
    return (1 - torch.special.entr(received(pattern)).sum(-1) / math.log(keys)).clamp(min=0)


@guarded
def received(pattern: Annotated[Float[Tensor, "... query key"], FINITE]) -> Float[Tensor, "... key"]:
    """The share of all attention that each key gets; sums to one. For one key this is the sink
    score of Gu et al. 2024 (arXiv 2410.10781)."""
    return pattern.mean(-2)


@guarded
def sink_rate(
    pattern: Annotated[Float[Tensor, "... head query key"], FINITE], key: Index = 0, threshold: float = SINK
) -> Float[Tensor, "..."]:
    """Fraction of the heads for which a key is a sink (Gu et al. 2024, arXiv 2410.10781), 0..1.

    Arguments:
        key: the first unless another is named.
        threshold: the share of all attention that makes a key a sink.
    """
    keys = pattern.shape[-1]
    if not -keys <= key < keys:
        raise LoopscopeIndexError(f"key must be one of the {keys} keys, 0..{keys - 1}, but is {key}.")
    return (received(pattern)[..., key] >= threshold).to(pattern.dtype).mean(-1)


@guarded
def mixing(pattern: Annotated[Float[Tensor, "... query key"], FINITE]) -> Float[Tensor, "..."]:
    """Entropy of a query's attention, on average over the queries, nats: 0 if each attends to one
    key, ln T if to all equally (Blayney et al. 2026, arXiv 2604.11791).

    >>> mixing(torch.eye(4))
    tensor(0.)
    """
    return torch.special.entr(pattern).sum(-1).mean(-1)


@guarded
def residual_entropy(states: Annotated[Float[Tensor, "... position width"], FINITE]) -> Float[Tensor, "..."]:
    """Entropy, in nats, of the eigenvalues of X Xᵀ / tr X Xᵀ: 0 if all positions share one
    direction, ln of the smaller of positions and width if they fill all directions equally. Not
    centred. After Skean et al. 2025 (arXiv 2502.02013)."""
    square = torch.linalg.svdvals(states.double()).square()
    return torch.special.entr(square / square.sum(-1, keepdim=True)).sum(-1)


@guarded
def causal(length: PositiveCount) -> Float[Tensor, "query key"]:
    """The pattern of a causal mask by itself, the baseline of the other measures: each query
    attends equally to itself and to all positions before it.

    >>> causal(2)
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000]], dtype=torch.float64)
    """
    return (
        torch.ones(length, length, dtype=torch.float64).tril()
        / torch.arange(1.0, length + 1, dtype=torch.float64)[:, None]
    )


def mass(
    pattern: Float[Tensor, "... query key"], keys: Bool[Tensor, "... query key"] | Bool[Tensor, "... 1 key"]
) -> Float[Tensor, "... query"]:
    """The share of each query's attention on some of the keys, 0..1."""
    return (pattern * keys).sum(-1) / pattern.sum(-1)


def evenness(pattern: Float[Tensor, "... query key"]) -> Float[Tensor, "... query"]:
    """Entropy of each query's attention over ln of the number of keys: 0 for one key, 1 for all
    equally. Shen, Su & Kyrillidis 2026 (arXiv 2605.17811). NaN if there is but one key."""
    keys = pattern.shape[-1]
    return torch.special.entr(pattern).sum(-1) / (math.log(keys) if keys > 1 else math.nan)
