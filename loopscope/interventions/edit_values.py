"""Values of edits: taken in as our own, converted to a site's dtype, and fitted to what is
edited."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.indexing import Selector, indices, select

Value = Tensor | tuple[Tensor, ...]
"""One tensor, or the tensors of a whole state."""


def copied_value(value: Any) -> Value:
    """A copy of an edit's value that shares no memory with it, and keeps its graph.

    Arguments:
        value: a tensor, an array, a number, or (nested) lists of numbers. For a whole state: a
            tuple or a list of tensors. Python's floats keep their 64 bits.

    Raises:
        LoopscopeError: anything else.
    """
    if isinstance(value, tuple | list) and value and any(_has_axes(part) for part in value):
        return tuple(_copied_tensor(part) for part in value)
    return _copied_tensor(value)


def _copied_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        if value.is_meta or value.layout != torch.strided or value.is_quantized:
            raise LoopscopeError(
                "the value of an edit must be a dense tensor that holds its numbers, but is a tensor "
                f"{tuple(value.shape)} on {value.device} of the layout {value.layout}. Use to_dense(), or a "
                "tensor with values."
            )
        return value.clone()
    try:
        if hasattr(value, "__array__"):
            return torch.as_tensor(value.__array__().copy())
        if not isinstance(value, int | float | complex | list | tuple | range):
            raise TypeError
        result = torch.tensor(value)
        exact = {torch.float32: torch.float64, torch.complex64: torch.complex128}.get(result.dtype)
        return result if exact is None else torch.tensor(value, dtype=exact)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise LoopscopeError(
            "the value of an edit must be a tensor, an array, a number or lists of numbers, but is a "
            f"{type(value).__name__}. Take one state of a run, such as donor.states[3]."
        ) from None


def _has_axes(part: Any) -> bool:
    return getattr(part, "ndim", 0) > 0


def converted(value: Tensor, like: Tensor, name: str) -> Tensor:
    """A value in the dtype and on the device of `like`. A float may be rounded; a number that the
    dtype can't hold is refused.

    Arguments:
        name: of the edit, for errors.

    Raises:
        LoopscopeError: complex numbers for real ones, fractions for integers, or numbers beyond the
            range of the dtype.
    """
    if value.dtype == like.dtype:
        return value.to(like.device)
    if value.is_complex() and not like.is_complex():
        raise LoopscopeError(
            f"{name}: the site holds real numbers ({like.dtype}), but the value is complex ({value.dtype}). "
            "Choose value.real or value.abs()."
        )
    new = value.to(like.dtype)  # before it moves: not every device has its dtype
    if like.is_floating_point() or like.is_complex():
        lost = new.isinf() & ~value.isinf()
    else:
        lost = new.to(value.dtype) != value  # NaN too
    if bool(lost.any()):
        example = value[lost].flatten()[0].item()
        raise LoopscopeError(
            f"{name}: the site holds {like.dtype}, which can't hold {example!r}. Round or scale the value "
            "first, or record the model in a wider dtype."
        )
    return new.to(like.device)


def fitted(
    value: Tensor, site: Tensor, axes: tuple[str, ...], selection: Sequence[Selector], name: str
) -> Tensor:
    """A value in the shape of the selected part of a site, a tensor of its own.

    Arguments:
        axes: names of the site's axes.
        selection: a canonical selector for each.
        name: of the edit, for errors.

    Raises:
        LoopscopeError: the value doesn't fit, or fits in two ways.
    """
    part = select(site, tuple(selection), name, axes)
    new = converted(value, site, name)
    as_site = new.ndim == site.ndim and _expands(new, site.shape)
    as_part = new.ndim <= part.ndim and _expands(new, part.shape)
    if as_site and as_part and site.shape == part.shape and _reordered(selection, site):
        along = [n for n, s in zip(axes, selection, strict=True) if s != slice(None)]
        if any(new.shape[axes.index(n)] > 1 for n in along):
            raise LoopscopeError(
                f"{name}: a value {tuple(new.shape)} of the site's own shape fits in two ways: its entries "
                f"may be numbered as the site's, or as {' and '.join(along)} orders them. Select each in "
                "its natural order, with a value in that order."
            )
    if as_part:
        kept = [n for n, s in zip(axes, selection, strict=True) if not isinstance(s, int)]
        _check_clear(new, part.shape, kept, name)
        return new.expand(part.shape).clone(memory_format=torch.contiguous_format)
    if as_site:
        whole = select(new.expand(site.shape), tuple(selection), name, axes)
        return whole.clone(memory_format=torch.contiguous_format)
    raise LoopscopeError(
        f"{name}: the value must have the site's shape {tuple(site.shape)} or fit the selected part "
        f"{tuple(part.shape)}, but has {tuple(new.shape)}. Take it from a run of the same batch "
        "and length."
    )


def _expands(value: Tensor, shape: Sequence[int]) -> bool:
    """Whether a value broadcasts to a shape."""
    last = shape[len(shape) - value.ndim :]
    return all(size in (1, wanted) for size, wanted in zip(value.shape, last, strict=True))


def _reordered(selection: Sequence[Selector], site: Tensor) -> bool:
    """Whether a selection takes all of a site in another order."""
    return any(
        indices(selector, size, "index") != list(range(size))
        for selector, size in zip(selection, site.shape, strict=True)
    )


def _check_clear(value: Tensor, shape: Sequence[int], axes: Sequence[str], name: str) -> None:
    """Raise LoopscopeError if the axes of a value with fewer axes may be others than the last ones.

    A vector along the width is clear: that is what a direction is.
    """
    sizes = [size for size in value.shape if size > 1]
    if value.ndim == len(shape) or not sizes:
        return
    if value.ndim == 1 and axes[-1] == "width":
        return
    ways = [
        places
        for places in combinations(range(len(shape)), len(sizes))
        if all(shape[place] == size for place, size in zip(places, sizes, strict=True))
    ]
    if len(ways) > 1:
        clear = [tuple(shape[a] if a in places else 1 for a in range(len(shape))) for places in ways[:3]]
        named = [" and ".join(axes[a] for a in places) for places in ways[:3]]
        options = " or ".join(f"{form} ({words})" for form, words in zip(clear, named, strict=True))
        raise LoopscopeError(
            f"{name}: a value of the shape {tuple(value.shape)} fits {tuple(shape)} in {len(ways)} ways. "
            f"Give it all axes, to say which are meant: {options}."
        )
