"""The tensors in a context of tuples, lists and mappings."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ..core.looped_model import Context


def leaves_of(context: Context) -> list[Tensor]:
    """Every tensor in a context of tuples, lists and mappings, in order."""
    if isinstance(context, Tensor):
        return [context]
    if isinstance(context, dict):
        return [leaf for value in context.values() for leaf in leaves_of(value)]
    return (
        [leaf for value in context for leaf in leaves_of(value)] if isinstance(context, list | tuple) else []
    )


def with_leaves(context: Context, new: dict[int, Tensor]) -> Any:
    """The context with some of its tensors replaced, by their number in `leaves_of`."""
    return _replace(context, new, iter(range(len(leaves_of(context)))))


def _replace(context: Context, new: dict[int, Tensor], numbers: Iterator[int]) -> Any:
    if isinstance(context, Tensor):
        number = next(numbers)
        return new.get(number, context)
    if isinstance(context, dict):
        return {key: _replace(value, new, numbers) for key, value in context.items()}
    if isinstance(context, list | tuple):
        inner = [_replace(value, new, numbers) for value in context]
        return type(context)(*inner) if hasattr(context, "_fields") else type(context)(inner)
    return context
