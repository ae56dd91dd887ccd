"""The mean that an ablation writes: over the examples of the batch in which a position counts."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.counted import checked_mask, counted_positions, special_tokens
from ..core.masked import masked_mean


def batch_mean(
    value: Tensor, axes: tuple[str, ...], mask: Tensor | None, edit: str, *, positions: Any = None
) -> Tensor:
    """The mean over the batch for each example; where a position doesn't count, the value itself.

    Arguments:
        axes: the names of the axes of `value`, the batch first.
        mask: which positions count, (batch, position); None: all.
        edit: the edit, as errors say it.
        positions: a selector of those whose mean is used; None: all.

    Raises:
        LoopscopeError: the mean is over one example, or a position that counts does so in only one.
    """
    counted = _counted(value, axes, mask)
    if counted is None or bool(counted.all()):
        if value.shape[0] < 2:
            raise LoopscopeError(
                f"{edit}: a mean over the batch needs two examples or more, but there is one. "
                "Record a larger batch, or patch with a mean that you have."
            )
        return value.mean(0, keepdim=True).expand_as(value).clone()
    numbers = torch.arange(counted.shape[1])
    if isinstance(positions, slice):
        numbers = torch.tensor(numbers.tolist()[positions], dtype=torch.long)
    elif positions is not None:
        numbers = numbers[torch.as_tensor(positions)].reshape(-1)
    alone = numbers[counted[:, numbers].sum(0) == 1]
    if len(alone):
        raise LoopscopeError(
            f"{edit}: a mean over the batch needs two examples or more, but position {alone[0]} counts in "
            "one alone (the others are padding there). Select other positions, or patch with a mean that "
            "you have."
        )
    position = axes.index("position")
    wide = counted.reshape([n if i in (0, position) else 1 for i, n in enumerate(value.shape)])
    wide = wide.to(value.device).expand_as(value)
    return torch.where(wide, masked_mean(value, wide, 0)[None], value)


def with_mask(
    edits: Iterable[Any],
    model: Any,
    tokens: Any,
    inputs: Mapping[str, Any],
    mask: Bool[Tensor, "batch position"] | None = None,
) -> list[Any]:
    """The edits, with the positions that count in each mean.

    Arguments:
        mask: of the run, where it is known; None: as the inputs and tokens say. An edit's own mask
            takes precedence.
    """
    edits = list(edits)
    if not any(getattr(edit, "action", None) == "mean" for edit in edits):
        return edits
    if not _has_positions(tokens):
        if any(getattr(edit, "mask", None) is not None for edit in edits):
            raise LoopscopeError(
                "mask says which positions count, but the model's input has no axes (batch, position). Leave "
                "mask= out."
            )
        return edits
    shape = (tokens.shape[0], tokens.shape[1])
    if mask is None:
        special = special_tokens(getattr(model, "config", None), getattr(model, "task", None))
        mask = counted_positions(tokens, inputs, special, shape).mask

    def masked(edit: Any) -> Any:
        if getattr(edit, "action", None) != "mean":
            return edit
        return replace(edit, mask=mask if edit.mask is None else checked_mask(edit.mask, shape))

    return [masked(edit) for edit in edits]


def _counted(value: Tensor, axes: tuple[str, ...], mask: Tensor | None) -> Tensor | None:
    """The mask for the positions of a value; None where it has none of its own."""
    if mask is None or "position" not in axes or axes[0] != "batch" or len(value) != len(mask):
        return None
    more = value.shape[axes.index("position")] - mask.shape[1]
    if more < 0:
        return None
    return torch.cat([mask.any(1, keepdim=True).expand(-1, more), mask], 1)


def _has_positions(tokens: Any) -> bool:
    return isinstance(tokens, Tensor) and tokens.ndim > 1
