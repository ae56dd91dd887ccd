"""The logits in what a model returns, which may be a tensor, tuple, list, dict or dataclass."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .sites import float_tensors

NAMES = ("logits", "prediction_logits", "lm_logits", "start_logits")


def find_logits(output: Any) -> Tensor | None:
    """The tensor that a model's output names its logits; else its first floating-point tensor with
    two axes or more. None if there is none."""
    if isinstance(output, Tensor):
        return output
    if (named := named_logits(output)) is not None:
        return named
    return next((tensor for _, tensor in float_tensors(output) if tensor.ndim > 1), None)


def named_logits(output: Any) -> Tensor | None:
    """The tensor that a model's output names its logits; None if it names none."""
    if isinstance(output, Tensor):
        return None
    for name in NAMES:
        named = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(named, Tensor):
            return named
    return None
