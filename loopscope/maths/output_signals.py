"""Signals that a loop has settled, from the states and answers of two consecutive iterations.

Divergences and entropies are in nats and computed in double precision: near a fixed point two
distributions agree to many digits.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from .precision import wide


def latent_change(
    previous: Float[Tensor, "*axes width"], current: Float[Tensor, "*axes width"]
) -> Float[Tensor, "*axes"]:
    """‖h_k - h_(k-1)‖ / ‖h_k‖ (Geiping et al. 2025, arXiv 2502.05171). 0 where both are zero."""
    previous, current = wide(previous), wide(current)
    return (current - previous).norm(dim=-1) / current.norm(dim=-1).clamp(min=1e-300)


def cosine_change(
    previous: Float[Tensor, "*axes width"], current: Float[Tensor, "*axes width"]
) -> Float[Tensor, "*axes"]:
    """1 - cos of two states, 0..2; 1 where one of them is zero (Geiping et al. 2025)."""
    previous, current = wide(previous), wide(current)
    sizes = (previous.norm(dim=-1) * current.norm(dim=-1)).clamp(min=1e-300)
    return (1 - (previous * current).sum(-1) / sizes).clamp(min=0)


def log_probabilities(logits: Float[Tensor, "*axes vocab"]) -> Float[Tensor, "*axes vocab"]:
    """log softmax of the logits, nats, in double precision."""
    return torch.log_softmax(wide(logits), dim=-1)


def uniform(like: Float[Tensor, "*axes vocab"]) -> Float[Tensor, "*axes vocab"]:
    """Log-probabilities of the uniform distribution, with which a first answer is compared, as in
    Huginn's code."""
    return torch.full_like(like, 1 / like.shape[-1], dtype=torch.float64).log()


def kl_divergence(p: Float[Tensor, "*axes vocab"], q: Float[Tensor, "*axes vocab"]) -> Float[Tensor, "*axes"]:
    """KL(p ‖ q) in nats, of log-probabilities. The direction matters: Huginn's rule takes
    KL(previous ‖ new), Kohli et al.'s (2026, arXiv 2604.07822) KL(new ‖ previous)."""
    share = p.exp()  # a token of probability 0 adds nothing, even where the other's is 0 too
    return torch.where(share > 0, share * (p - q), torch.zeros_like(share)).sum(-1).clamp(min=0)


def entropy(p: Float[Tensor, "*axes vocab"]) -> Float[Tensor, "*axes"]:
    """-sum p log p in nats, of log-probabilities; 0..log of the vocabulary."""
    return -(p.exp() * p.clamp(min=-1e30)).sum(-1)


def min_p(p: Float[Tensor, "*axes vocab"], share: float = 0.1) -> Float[Tensor, "*axes vocab"]:
    """Log-probabilities without unlikely tokens: probabilities below `share` times the largest
    become 1 / vocabulary, and all are normalised again, as in the code of Geiping et al. 2025
    (arXiv 2502.05171) before its min-p KL.

    Two answers that differ in unlikely tokens only are then alike.
    """
    probability = p.exp()
    kept = probability >= share * probability.amax(-1, keepdim=True)
    floored = torch.where(kept, probability, torch.full_like(probability, 1 / probability.shape[-1]))
    return (floored / floored.sum(-1, keepdim=True)).log()


def confidence(p: Float[Tensor, "*axes vocab"]) -> Float[Tensor, "*axes"]:
    """The largest probability, 0..1, of log-probabilities."""
    return p.amax(-1).exp()


def margin(logits: Float[Tensor, "*axes vocab"], targets: Shaped[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """The logit of the right answer less the largest other (Kohli et al. 2026, arXiv 2604.07822):
    above 0 where the answer is right."""
    right = logits.gather(-1, targets.long()[..., None])
    others = logits.scatter(-1, targets.long()[..., None], float("-inf"))
    return right[..., 0] - others.amax(-1)
