"""Arrays as tidy tables of pandas (Wickham 2014): one row for each number, one column for each
axis."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .errors import LoopscopeError


def pandas(function: str = "to_pandas") -> Any:
    """The module pandas.

    Raises:
        LoopscopeError: it isn't installed (extra: pandas).
    """
    try:
        import pandas
    except ImportError:
        raise LoopscopeError(
            f'{function} needs pandas, which isn\'t installed. Run: pip install "loopscope[pandas]".'
        ) from None
    return pandas


def as_array(values: Any) -> np.ndarray:
    """A tensor, an array or a sequence of numbers or words as an array of NumPy, which has no
    bfloat16."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().resolve_conj().resolve_neg()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


def tidy(
    values: Mapping[str, Any],
    axes: Sequence[str],
    coordinates: Mapping[str, Sequence[Any]] | None = None,
) -> Any:
    """A DataFrame in long format of arrays of one shape. What is NaN stays as a row, with NaN.

    Arguments:
        values: by the name of its column.
        axes: their names, which become columns.
        coordinates: by axis, in place of 0, 1, 2 ...
    """
    arrays = {name: as_array(array) for name, array in values.items()}
    shape = next(iter(arrays.values())).shape
    places = np.indices(shape).reshape(len(shape), math.prod(shape))
    columns: dict[str, Any] = {}
    for axis, index in zip(axes, places, strict=True):
        known = (coordinates or {}).get(axis)
        columns[axis] = index if known is None else as_array(known)[index]
    return pandas().DataFrame(columns | {name: array.reshape(-1) for name, array in arrays.items()})
