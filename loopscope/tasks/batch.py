"""Batch: examples of a task with their labels."""

from dataclasses import dataclass, fields
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Examples of a task with their labels."""

    tokens: Int[Tensor, "batch position"]
    targets: Int[Tensor, "batch position"]
    """The correct token at every position of the mask; elsewhere the input token."""
    mask: Bool[Tensor, "batch position"]
    """True at the positions that the model has to answer."""
    difficulty: Float[Tensor, " batch"]
    """How hard each example is, in the task's unit (`task.difficulty_unit`)."""

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device | str) -> Self:
        """The same batch with its tensors on `device`."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self)(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in tensors.items()})
