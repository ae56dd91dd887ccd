"""What is measured of attention patterns, as stages of inference: where attention gathers and how
much it mixes.

A pattern is (..., query, key) with rows that sum to one. Sources: ColSum concentration,
Queipo-de-Llano et al. 2025; sinks, Gu et al. 2024 (arXiv 2410.10781); both as used on loops by
Blayney et al. 2026 (arXiv 2604.11791).
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SINK = 0.3
"""A key with this share of all attention is a sink."""


def concentration(pattern: Float[Tensor, "... query key"]) -> Float[Tensor, "..."]:
    """ColSum concentration C = 1 - H(c) / ln T, with c_j = mean over the queries of A_ij: 1 if all
    attend to one key, 0 if keys get the same. c must sum to one: with the sums over queries
    themselves C isn't between 0 and 1.

    A causal mask alone gives more than 0: compare with `concentration(causal(T))`.
    """
    keys = pattern.shape[-1]
    if keys == 1:
        return torch.ones_like(pattern[..., 0, 0])
    return (1 - torch.special.entr(received(pattern)).sum(-1) / math.log(keys)).clamp(min=0)


def received(pattern: Float[Tensor, "... query key"]) -> Float[Tensor, "... key"]:
    """The share of all attention that each key gets; sums to one. Of key k this is Gu's sink
    score."""
    return pattern.mean(-2)


def sink_rate(
    pattern: Float[Tensor, "... head query key"], key: int = 0, threshold: float = SINK
) -> Float[Tensor, "..."]:
    """Fraction of the heads for which a key, the first unless said otherwise, is a sink."""
    return (received(pattern)[..., key] >= threshold).to(pattern.dtype).mean(-1)


def mixing(pattern: Float[Tensor, "... query key"]) -> Float[Tensor, "..."]:
    """Mean over the queries of the entropy of their attention, nats: 0 if each attends to one key,
    ln T if to all alike."""
    return torch.special.entr(pattern).sum(-1).mean(-1)


def residual_entropy(states: Float[Tensor, "... position width"]) -> Float[Tensor, "..."]:
    """Entropy, in nats, of the eigenvalues of X Xᵀ / tr X Xᵀ: 0 if all positions share one
    direction, ln of the smaller of positions and width if they fill all alike. Not centred. After
    Skean et al. 2025 (arXiv 2502.02013)."""
    square = torch.linalg.svdvals(states.double()).square()
    return torch.special.entr(square / square.sum(-1, keepdim=True)).sum(-1)


def causal(length: int) -> Float[Tensor, "query key"]:
    """What a causal mask alone gives, the null of the others: each query attends to itself and all
    before it alike."""
    return (
        torch.ones(length, length, dtype=torch.float64).tril()
        / torch.arange(1.0, length + 1, dtype=torch.float64)[:, None]
    )


def mass(
    pattern: Float[Tensor, "... query key"], keys: Bool[Tensor, "... query key"] | Bool[Tensor, "... 1 key"]
) -> Float[Tensor, "... query"]:
    """The share of its attention that each query pays to some of the keys, 0..1."""
    return (pattern * keys).sum(-1) / pattern.sum(-1)


def evenness(pattern: Float[Tensor, "... query key"]) -> Float[Tensor, "... query"]:
    """Entropy of each query's attention over ln of the number of keys: 0 for one key, 1 for all
    alike. Shen, Su & Kyrillidis 2026 (arXiv 2605.17811). NaN if there is but one key."""
    keys = pattern.shape[-1]
    return torch.special.entr(pattern).sum(-1) / (math.log(keys) if keys > 1 else math.nan)
