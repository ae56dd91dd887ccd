"""Gradient checkpointing: what a checkpointed part computes is computed again in the backward pass,
where no edit is made."""

import sys
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError

_CHECKPOINT = "torch.utils.checkpoint"


def check_not_recomputed(edit: Any) -> None:
    """Raise LoopscopeError where an edit is made inside a part that a backward pass will compute
    again: the gradients would be those of another function."""
    if _recomputed():
        raise LoopscopeError(
            f"{edit}: it must be made whenever its site is computed, but this is inside gradient "
            "checkpointing, which computes it again in the backward pass without edits, so gradients would "
            "be those of another function. Switch checkpointing off, such as by "
            "model.gradient_checkpointing_disable(), or compute without gradients."
        )


def _recomputed() -> bool:
    """Whether this is called inside a call of `torch.utils.checkpoint` whose gradients can be
    asked for."""
    frame = sys._getframe()
    while (frame := frame.f_back) is not None:
        if frame.f_globals.get("__name__") != _CHECKPOINT:
            continue
        if torch.is_grad_enabled():
            return True
        arguments = frame.f_locals.get("args", ()) if frame.f_code.co_name == "forward" else ()
        if any(isinstance(value, Tensor) and value.requires_grad for value in arguments):
            return True  # the reentrant form runs without gradients, which its inputs have
    return False
