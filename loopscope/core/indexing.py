"""Indexing of activations by named axes: selectors, vectors, grids."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.arguments import elements, index_or_indices
from ..common.errors import LoopscopeError, LoopscopeIndexError

_LONGEST = 16
"""Numbers that a list in a text may have."""

Selector = int | slice | list[int] | list[bool]
"""What selects along an axis, in its canonical form. A list of bool is a mask: an entry for each
index of the axis."""


def as_vectors(value: Tensor, axes: Sequence[str]) -> Float[Tensor, "batch position width"]:
    """A value with these axes as one vector for each example and position.

    A value without positions counts as one position. All axes but batch and position are flattened
    into the vector, those of inner loops and heads too.
    """
    order = [axes.index(name) for name in ("batch", "position") if name in axes]
    value = value.permute(*order, *(axis for axis in range(value.ndim) if axis not in order))
    value = value if "position" in axes else value.unsqueeze(1)
    return value.flatten(2) if value.ndim > 2 else value.unsqueeze(2)


def canonical_selector(selector: Any, name: str) -> Selector:
    """A selector as an int, a slice of ints, a list of ints, or a mask: whatever kind of number,
    range, tuple, array or tensor it is. `...` selects everything.

    Arguments:
        name: of the selector, for errors.

    Raises:
        LoopscopeError: it selects nothing along an axis: a float, a single bool, a string ...
    """
    if selector is Ellipsis:
        return slice(None)
    try:
        items = elements(selector)
        if isinstance(items, list | tuple) and items and all(_is_bool(item) for item in items):
            return [bool(item) for item in items]
        result = index_or_indices(items)
    except (ValueError, TypeError, RuntimeError, NotImplementedError):  # the last two of meta tensors
        result = None
    if result is None or (isinstance(result, slice) and result.step == 0):
        raise LoopscopeError(
            f"{name} must be a whole number, a slice, or a list, range, array or mask of these, but is "
            f"{_excerpt(selector)}. Count from 0, or from the end with negative numbers."
        )
    return result


def canonical_selectors(where: Mapping[str, Any], name: str) -> dict[str, Selector]:
    """Selectors by axis in their canonical form, without those that are None.

    Arguments:
        name: of what is selected from, for errors.
    """
    return {
        axis: canonical_selector(selector, f"'{name}': {axis}")
        for axis, selector in where.items()
        if selector is not None
    }


def iteration_selector(index: Any, name: str) -> int | slice:
    """The iteration of an index, or a slice of iterations.

    Arguments:
        name: of what is indexed, for errors.

    Raises:
        LoopscopeError: it is neither.
    """
    try:
        selector = None if index is Ellipsis else canonical_selector(index, "an iteration")
    except LoopscopeError:
        selector = None
    if not isinstance(selector, int | slice):
        raise LoopscopeError(
            f"'{name}' is indexed by an iteration (a whole number or a slice), but got {_excerpt(index)}. "
            "For other axes use .at(position=...), or .tensor for everything."
        )
    return selector


def indices(selector: Selector, size: int, name: str) -> int | list[int]:
    """What a canonical selector selects of 0..size-1; a number stays one.

    Arguments:
        name: of the axis, for errors.

    Raises:
        LoopscopeIndexError: there is no such index, or a mask of another length.
    """
    if isinstance(selector, slice):
        return list(range(*selector.indices(size)))
    if isinstance(selector, list) and selector and isinstance(selector[0], bool):
        if len(selector) != size:
            raise LoopscopeIndexError(
                f"a mask needs an entry for each {name}, but has {len(selector)} for {size}."
            )
        return [number for number, chosen in enumerate(selector) if chosen]
    for number in [selector] if isinstance(selector, int) else selector:
        if not -size <= number < size:
            numbered = f" (0..{size - 1})" if size else ""
            raise LoopscopeIndexError(f"there is no {name} {number}: there are {size}{numbered}.")
    return selector % size if isinstance(selector, int) else [number % size for number in selector]


def select(value: Tensor, selection: tuple[Any, ...], name: str, axes: Sequence[str] = ()) -> Tensor:
    """Index `value` axis by axis: an int drops its axis, a slice, list or mask keeps it.

    Arguments:
        selection: one selector for each axis, from the first.
        name: of the value, for errors.
        axes: names of the axes, for errors.

    Raises:
        LoopscopeError: something that selects nothing along an axis.
        LoopscopeIndexError: a position, head or row doesn't exist.
    """
    shape = tuple(value.shape)
    for axis in range(len(selection) - 1, -1, -1):
        along = axes[axis] if axes else f"index of axis {axis}"
        selector = canonical_selector(selection[axis], f"{name}: {along}")
        if isinstance(selector, slice):
            if selector != slice(None):
                value = _sliced(value, axis, selector)
            continue
        try:
            numbers = indices(selector, value.shape[axis], along)
        except LoopscopeIndexError as error:
            raise LoopscopeIndexError(
                f"{name} has the shape {shape}, from which {along} can't be selected: {error} "
                "Use positions, heads or rows that exist; negative ones count from the end."
            ) from None
        if isinstance(numbers, int):
            value = value.select(axis, numbers)
        else:
            value = value.index_select(axis, torch.tensor(numbers, dtype=torch.long, device=value.device))
    return value


def rest_of_index(value: Tensor, index: tuple[Any, ...], name: str) -> Tensor:
    """`value[index]`, as PyTorch indexes, for what follows an iteration in an index.

    Raises:
        LoopscopeIndexError: there is nothing at this index, or it is none.
    """
    try:
        parts = tuple(
            part if part is None or part is Ellipsis else _as_index(part, value.device) for part in index
        )
        return value[parts]
    except (LoopscopeError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise LoopscopeIndexError(
            f"'{name}' has the shape {tuple(value.shape)} here, which [{_index_text(index)}] doesn't select "
            f"from ({error}). Use indices that exist along each axis, or .at(position=...)."
        ) from None


def _as_index(part: Any, device: torch.device) -> Any:
    if isinstance(part, Tensor) and part.ndim > 0:
        return part
    if getattr(part, "ndim", 0) > 1:  # an array of NumPy, as PyTorch takes it
        return torch.as_tensor(part, device=device)
    selector = canonical_selector(part, "an index")
    return torch.tensor(selector, device=device) if isinstance(selector, list) and selector else selector


def _index_text(index: tuple[Any, ...]) -> str:
    return ", ".join(":" if part == slice(None) else selector_text(part) for part in map(_excerpted, index))


def _excerpted(part: Any) -> Any:
    return _excerpt(part) if hasattr(part, "shape") else part


def _sliced(value: Tensor, axis: int, selector: slice) -> Tensor:
    start, stop, step = selector.indices(value.shape[axis])
    if step > 0:
        return value[(slice(None),) * axis + (slice(start, stop, step),)]
    numbers = list(range(start, stop, step))
    return value.index_select(axis, torch.tensor(numbers, dtype=torch.long, device=value.device))


def selector_text(selector: Any) -> str:
    """A selector as it is written in an index: `3`, `2:5`, `[0, 4]`. A mask is written as what it
    selects, and a long list as its ends."""
    if isinstance(selector, slice):
        bounds = ["" if bound is None else str(bound) for bound in (selector.start, selector.stop)]
        return ":".join(bounds if selector.step is None else [*bounds, str(selector.step)])
    if not isinstance(selector, list):
        return str(selector)
    if selector and isinstance(selector[0], bool):
        selector = [number for number, chosen in enumerate(selector) if chosen]
    if len(selector) <= _LONGEST:
        return str(selector)
    first, last = (", ".join(map(str, part)) for part in (selector[:4], selector[-2:]))
    return f"[{first}, ..., {last}] ({len(selector)} in all)"


def index_grid(sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Every index of a grid of these sizes, the last axis fastest."""
    return [
        tuple(row)
        for row in torch.cartesian_prod(*[torch.arange(s) for s in sizes]).reshape(-1, len(sizes)).tolist()
    ]


def _is_bool(value: Any) -> bool:
    return type(value).__name__ in ("bool", "bool_")


def _excerpt(value: Any) -> str:
    if hasattr(value, "shape") and getattr(value, "ndim", 0):
        return f"a {type(value).__name__} {tuple(value.shape)} of {value.dtype}"
    text = repr(value)
    return text if len(text) <= 80 else f"a {type(value).__name__}"
