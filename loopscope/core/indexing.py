"""Indexing of activations by named axes: selections, vectors, grids."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.errors import LoopscopeIndexError


def as_vectors(value: Tensor, axes: Sequence[str]) -> Float[Tensor, "batch position width"]:
    """A value with these axes as one vector for each example and position.

    A value without positions counts as one position. All axes but batch and position are flattened
    into the vector, those of inner loops and heads too.
    """
    order = [axes.index(name) for name in ("batch", "position") if name in axes]
    value = value.permute(*order, *(axis for axis in range(value.ndim) if axis not in order))
    value = value if "position" in axes else value.unsqueeze(1)
    return value.flatten(2) if value.ndim > 2 else value.unsqueeze(2)


def select(value: Tensor, selection: tuple[Any, ...], name: str) -> Tensor:
    """Index `value` axis by axis: an int drops its axis, a slice, list or mask keeps it.

    Arguments:
        selection: one selector for each axis, from the first.
        name: of the value, for errors.

    Raises:
        LoopscopeIndexError: a position, head or row doesn't exist.
    """
    try:
        for axis in range(len(selection) - 1, -1, -1):
            selector = selection[axis]
            if isinstance(selector, slice) and selector == slice(None):
                continue
            if isinstance(selector, int):
                value = value.select(axis, selector)
            elif isinstance(selector, slice) and (selector.step or 1) > 0:
                value = value[(slice(None),) * axis + (selector,)]
            else:
                if isinstance(selector, slice):  # a negative step
                    selector = list(range(value.shape[axis]))[selector]
                index = torch.as_tensor(selector, device=value.device)
                index = index.nonzero()[:, 0] if index.dtype == torch.bool else index
                index = index % value.shape[axis] if _within(index, value, axis) else index
                value = value.index_select(axis, index)
    except (IndexError, TypeError) as error:
        raise LoopscopeIndexError(
            f"{name} has the shape {tuple(value.shape)}, which {selection} doesn't select from ({error}). "
            "Use positions, heads or rows that exist; negative ones count from the end."
        ) from None
    return value


def _within(index: Tensor, value: Tensor, axis: int) -> bool:
    size = value.shape[axis]
    return bool(((index >= -size) & (index < size)).all())


def index_grid(sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Every index of a grid of these sizes, the last axis fastest."""
    return [
        tuple(row)
        for row in torch.cartesian_prod(*[torch.arange(s) for s in sizes]).reshape(-1, len(sizes)).tolist()
    ]
