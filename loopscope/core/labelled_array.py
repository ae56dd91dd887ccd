"""labelled_array: a site's values as an array of xarray."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from .indexing import index_grid
from .lazy_values import LazyValues, LoopPlace


def labelled_array(
    values: Tensor | LazyValues,
    axes: Sequence[str],
    iterations: Sequence[int],
    name: str,
    inner: Sequence[int] = (),
) -> Any:
    """An xarray.DataArray with named dimensions, and the iterations as coordinates of the first.

    Arguments:
        values: in one tensor; or to be read when they are asked for, each a chunk of a dask array.
        inner: lengths of the inner loop axes.

    Raises:
        LoopscopeError: xarray isn't installed (extra: xarray).
    """
    try:
        import xarray
    except ImportError:
        raise LoopscopeError(
            "to_xarray needs xarray, which isn't installed. Run: pip install xarray."
        ) from None
    array = _numbers(values) if isinstance(values, Tensor) else _stacked(values, iterations, inner)
    return xarray.DataArray(array, dims=axes, coords={axes[0]: iterations}, name=name)


def _stacked(values: LazyValues, iterations: Sequence[int], inner: Sequence[int]) -> Any:
    """The values in one array: with dask they are read when they are asked for, without it now."""
    if find_spec("dask") is not None:
        return _chunked(values, iterations, inner)
    form = _numbers(torch.empty(0, dtype=values.form(next(iter(values))).dtype))
    shape = tuple(values.form(next(iter(values))).shape)
    grid = index_grid(tuple(inner)) if inner else [()]
    result = np.full((len(iterations), len(grid), *shape), _filler(form), dtype=form.dtype)
    for row, k in enumerate(iterations):
        for column, turn in enumerate(grid):
            if (k, *turn) in values:
                result[row, column] = _read(values, (k, *turn))
    return result.reshape((len(iterations), *inner, *shape))


def _filler(like: Any) -> float:
    return float("nan") if like.dtype.kind == "f" else 0


def _chunked(values: LazyValues, iterations: Sequence[int], inner: Sequence[int]) -> Any:
    """A dask array with a chunk for each value; an absent turn of an inner loop is NaN."""
    import dask.array
    from dask.delayed import delayed

    first = next(iter(values))
    form = values.form(first)
    like = _numbers(torch.empty(0, dtype=form.dtype))

    def chunk(index: LoopPlace) -> Any:
        if index not in values:
            return dask.array.full(tuple(form.shape), _filler(like), dtype=like.dtype)
        value = delayed(_read, pure=False)(values, index)
        return dask.array.from_delayed(value, shape=tuple(form.shape), dtype=like.dtype)

    grid = index_grid(tuple(inner)) if inner else [()]
    stacked = dask.array.stack([chunk((k, *turn)) for k in iterations for turn in grid])
    return stacked.reshape((len(iterations), *inner, *form.shape)) if inner else stacked


def _read(values: Mapping[LoopPlace, Tensor], index: LoopPlace) -> Any:
    return _numbers(values[index])


def _numbers(tensor: Tensor) -> Any:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
