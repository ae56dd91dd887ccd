"""Whether tokens are the tokens of a model or a task."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ..common.errors import LoopscopeError


def checked_tokens(tokens: Any, vocabulary: int, reader: str) -> Int[Tensor, "batch position"]:
    """`tokens` as int64, whatever type of integer they have.

    Arguments:
        reader: whose tokens they must be, as the error says it.

    Raises:
        LoopscopeError: no tensor of integers (batch, position), or out of the vocabulary.
    """
    if not isinstance(tokens, Tensor):
        raise LoopscopeError(
            f"{reader} needs its tokens as a Tensor of integers (batch, position), but got a "
            f"{type(tokens).__name__}. Use torch.tensor(...) or task.batch(...).tokens."
        )
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        raise LoopscopeError(
            f"{reader} needs tokens of the shape (batch, position) with at least one position, but got "
            f"{tuple(tokens.shape)}. Add the missing axis, e.g. tokens[None]."
        )
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise LoopscopeError(
            f"{reader} needs integer tokens (int64), but got {tokens.dtype}. Use tokens.long()."
        )
    if tokens.numel() and (int(tokens.min()) < 0 or int(tokens.max()) >= vocabulary):
        raise LoopscopeError(
            f"{reader} needs tokens in 0..{vocabulary - 1}, but they reach from {int(tokens.min())} to "
            f"{int(tokens.max())}. Use the tokens of the task's own batches."
        )
    return tokens.long()
