"""Token ids to vectors, after a look at whether they are token ids at all."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from ..errors import LoopscopeError


class Embedding(nn.Module):
    """One learned vector per token, scaled to unit variance; its output is the site `hook_embed`."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.table = nn.Embedding(vocabulary, width)
        self.hook_embed = HookPoint()

    def forward(self, tokens: Int[Tensor, "batch position"]) -> Float[Tensor, "batch position width"]:
        return self.hook_embed(self.table(checked_tokens(tokens, self.vocabulary)))


def checked_tokens(tokens: object, vocabulary: int) -> Tensor:
    """`tokens` as they are, or the sentence that says why they aren't tokens of this model."""
    if not isinstance(tokens, Tensor):
        raise LoopscopeError(
            f"tokens must be a Tensor of integers (batch, position), but are a {type(tokens).__name__}. "
            "Use torch.tensor(...) or task.batch(...).tokens."
        )
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        raise LoopscopeError(
            f"tokens must have the shape (batch, position) with at least one position, but have {tuple(tokens.shape)}. "
            "Add the missing axis, e.g. tokens[None]."
        )
    if tokens.dtype not in (torch.int64, torch.int32):
        raise LoopscopeError(f"tokens must be integers (int64), but are {tokens.dtype}. Use tokens.long().")
    if tokens.numel() and (int(tokens.min()) < 0 or int(tokens.max()) >= vocabulary):
        raise LoopscopeError(
            f"tokens must lie in 0..{vocabulary - 1}, this model's vocabulary, but reach from {int(tokens.min())} to "
            f"{int(tokens.max())}. Use the tokens of this model's own task."
        )
    return tokens
