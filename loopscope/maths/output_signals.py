"""Signals that a loop has settled: what can be read from the states and answers of two consecutive
iterations.

Divergences and entropies are in nats and computed in double precision, as the last digits decide:
near a fixed point the two distributions agree to many places.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def latent_change(
    before: Float[Tensor, "*axes width"], now: Float[Tensor, "*axes width"]
) -> Float[Tensor, "*axes"]:
    """‖h_k - h_(k-1)‖ / ‖h_k‖ (Geiping et al. 2025, arXiv 2502.05171). 0 where both are zero."""
    before, now = before.double(), now.double()
    return (now - before).norm(dim=-1) / now.norm(dim=-1).clamp(min=1e-300)


def cosine_change(
    before: Float[Tensor, "*axes width"], now: Float[Tensor, "*axes width"]
) -> Float[Tensor, "*axes"]:
    """1 - cos of two states, 0..2; 1 where one of them is zero (Geiping et al. 2025)."""
    before, now = before.double(), now.double()
    sizes = (before.norm(dim=-1) * now.norm(dim=-1)).clamp(min=1e-300)
    return (1 - (before * now).sum(-1) / sizes).clamp(min=0)


def log_probabilities(logits: Float[Tensor, "*axes vocab"]) -> Float[Tensor, "*axes vocab"]:
    """What the logits say of each token, in nats and double precision."""
    return torch.log_softmax(logits.double(), dim=-1)


def uniform(like: Float[Tensor, "*axes vocab"]) -> Float[Tensor, "*axes vocab"]:
    """The log-probabilities of knowing nothing: what a first answer is compared with, as in
    Huginn's code."""
    return torch.full_like(like, 1 / like.shape[-1], dtype=torch.float64).log()


def kl_divergence(p: Float[Tensor, "*axes vocab"], q: Float[Tensor, "*axes vocab"]) -> Float[Tensor, "*axes"]:
    """KL(p ‖ q) in nats, of log-probabilities. The direction matters: Huginn's rule takes
    KL(previous ‖ new), Kohli et al.'s (2026, arXiv 2604.07822) KL(new ‖ previous)."""
    share = p.exp()  # what is never said adds nothing, even where the other never says it either
    return torch.where(share > 0, share * (p - q), torch.zeros_like(share)).sum(-1).clamp(min=0)


def entropy(p: Float[Tensor, "*axes vocab"]) -> Float[Tensor, "*axes"]:
    """-sum p log p in nats, of log-probabilities; 0..log of the vocabulary."""
    return -(p.exp() * p.clamp(min=-1e30)).sum(-1)


def min_p(p: Float[Tensor, "*axes vocab"], share: float = 0.1) -> Float[Tensor, "*axes vocab"]:
    """Log-probabilities whose unlikely tokens are set aside: those below `share` times the
    likeliest become 1 / vocabulary, and all are normalised again. As the code of Geiping et al.
    2025 does before its min-p KL.

    Two answers that differ in what neither would say are then alike.
    """
    likely = p.exp()
    kept = likely >= share * likely.amax(-1, keepdim=True)
    floored = torch.where(kept, likely, torch.full_like(likely, 1 / likely.shape[-1]))
    return (floored / floored.sum(-1, keepdim=True)).log()


def confidence(p: Float[Tensor, "*axes vocab"]) -> Float[Tensor, "*axes"]:
    """The largest probability, 0..1, of log-probabilities."""
    return p.amax(-1).exp()


def margin(logits: Float[Tensor, "*axes vocab"], targets: Shaped[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """The logit of the right answer less the largest other (Kohli et al. 2026): above 0 where the
    answer is right."""
    right = logits.gather(-1, targets.long()[..., None])
    others = logits.scatter(-1, targets.long()[..., None], float("-inf"))
    return right[..., 0] - others.amax(-1)
