"""Measures of the logits that a lens gives: ranks of tokens, changes of the answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from ..maths import output_signals

Tokens = Int[Tensor, "batch position"] | Int[Tensor, " batch"] | Sequence[Any] | int
"""Tokens to follow: one for each position of each example, one for each example, or one for all.
-1: no token."""


@dataclass(frozen=True)
class LogitChunk:
    """Some rows of the logits that a lens gives at one place and iteration."""

    logits: Float[Tensor, "row position vocab"]
    """In double precision."""
    final_logits: Float[Tensor, "row position vocab"] = field(repr=False)
    """Of the model's own answer after the last iteration."""
    rows: slice
    """Their rows in the batch."""

    @cached_property
    def p(self) -> Float[Tensor, "row position vocab"]:
        """Log-probabilities."""
        return output_signals.log_probabilities(self.logits)

    @cached_property
    def final(self) -> Float[Tensor, "row position vocab"]:
        """Log-probabilities of the model's own answer after the last iteration."""
        return output_signals.log_probabilities(self.final_logits)


def token_rank(chunk: LogitChunk, ids: Int[Tensor, "row position"]) -> Float[Tensor, "row position"]:
    """The rank of each token, 1 for the likeliest; of equal logits the lower id comes first. NaN
    where there is no token (-1)."""
    ids = ids.to(chunk.logits.device)
    absent, ids = ids < 0, ids.clamp(min=0)
    logit = chunk.logits.gather(-1, ids[..., None])
    lower = torch.arange(chunk.logits.shape[-1], device=ids.device) < ids[..., None]
    rank = 1 + (chunk.logits > logit).sum(-1) + ((chunk.logits == logit) & lower).sum(-1)
    return rank.double().masked_fill(absent, float("nan"))


def answer_flips(
    answers: Int[Tensor, "site iteration batch position"],
) -> Bool[Tensor, "site iteration batch position"]:
    """Where an answer differs from the last one before it; answers of -1 are absent."""
    flips, before = torch.zeros_like(answers, dtype=torch.bool), answers[:, 0]
    for k in range(1, answers.shape[1]):
        now = answers[:, k]
        flips[:, k] = (now >= 0) & (before >= 0) & (now != before)
        before = torch.where(now >= 0, now, before)
    return flips


def settling_iteration(
    answers: Int[Tensor, "site iteration *item"], iterations: Sequence[int]
) -> Int[Tensor, " site *item"]:
    """The first iteration from which on every answer is the last one; -1 where there are no
    answers."""
    last, since = torch.full_like(answers[:, 0], -1), torch.full_like(answers[:, 0], -1)
    for i, k in enumerate(iterations):
        now = answers[:, i]
        since = torch.where((now >= 0) & (now != last), k, since)
        last = torch.where(now >= 0, now, last)
    return since


def checked_tokens(tokens: Tokens, shape: tuple[int, ...]) -> Int[Tensor, "batch position"]:
    """The token to follow at every position.

    Arguments:
        shape: (batch, position, vocab) of the logits.

    Raises:
        LoopscopeError: they aren't token ids, or don't fit the batch.
    """
    batch, positions, vocabulary = shape
    try:
        ids = torch.as_tensor(tokens)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LoopscopeError(
            f"tokens to follow must be whole numbers, but got a {type(tokens).__name__} ({error})."
        ) from None
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise LoopscopeError(f"tokens to follow must be whole numbers, but are {ids.dtype}. Use .long().")
    ids = ids[:, None] if ids.ndim == 1 else ids
    fits = ids.ndim <= 2 and all(
        size in (1, full) for size, full in zip(ids.shape, (batch, positions), strict=False)
    )
    if not fits or (ids.ndim == 2 and ids.shape[0] == 1 != batch):
        raise LoopscopeError(
            f"tokens to follow must be one id, one for each example ({batch},) or one for each position "
            f"({batch}, {positions}), but have the shape {tuple(torch.as_tensor(tokens).shape)}."
        )
    if ids.numel() and not -1 <= int(ids.min()) <= int(ids.max()) < vocabulary:
        raise LoopscopeError(
            f"tokens to follow must lie in 0..{vocabulary - 1} (-1: none there), but reach from "
            f"{int(ids.min())} to {int(ids.max())}."
        )
    return ids.long().expand(batch, positions).cpu()
