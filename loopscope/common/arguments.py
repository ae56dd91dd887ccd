"""Types of arguments, sharper than int and float. `loopscope.common.guard` checks them.

@guarded
def repeat(iteration: Index, times: Count = 2) -> ScheduleEdit: ...
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le, Predicate


@dataclass(frozen=True)
class Meaning:
    """The words for a type in an error: "must be <text>"."""

    text: str


Count = Annotated[int, Ge(0), Meaning("a whole number, 0 or more")]
PositiveCount = Annotated[int, Ge(1), Meaning("a whole number, 1 or more")]
Index = Annotated[int, Meaning("a whole number")]
"""The number of an iteration, a position, a row; negative ones count from the end."""
Seed = Annotated[int, Ge(-(2**63)), Le(2**64 - 1), Meaning("a whole number, -2^63 to 2^64 - 1")]
"""What torch.manual_seed takes."""
SmallSeed = Annotated[int, Ge(0), Le(2**32 - 1), Meaning("a whole number, 0 to 2^32 - 1")]
"""What NumPy and scikit-learn take."""
Finite = Annotated[float, Predicate(math.isfinite), Meaning("a finite number")]
Positive = Annotated[float, Gt(0), Predicate(math.isfinite), Meaning("a finite number above 0")]
NotNegative = Annotated[float, Ge(0), Meaning("a number, 0 or more")]
Scheduler = Annotated[
    str,
    Predicate(lambda one: one in ("threads", "processes") or ":" in one),
    Meaning('"threads", "processes" or the address of a dask scheduler, such as tcp://10.0.0.1:8786'),
]
"""Who computes several things at the same time."""
Address = Annotated[
    str,
    Predicate(lambda one: ":" in one),
    Meaning("the address of a dask scheduler, such as tcp://10.0.0.1:8786"),
]
Share = Annotated[float, Ge(0), Le(1), Meaning("a number from 0 to 1")]


def whole_number(value: Any) -> int:
    """An integer of Python, NumPy or PyTorch (of one element, without axes) as an int.

    Raises:
        ValueError: anything else, also a bool and a float.
    """
    value = _python(value)
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise ValueError("no whole number")
    return int(value)


def real_number(value: Any) -> float:
    """A real number of Python, NumPy or PyTorch (of one element, without axes) as a float.

    Raises:
        ValueError: anything else, also a bool and NaN.
    """
    value = _python(value)
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise ValueError("no real number")
    if math.isnan(value):
        raise ValueError("NaN")
    return float(value)


def truth(value: Any) -> bool:
    """True or False of Python or NumPy as a bool.

    Raises:
        ValueError: anything else, also 0 and 1.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError("neither True nor False")
    return bool(value)


def elements(value: Any) -> Any:
    """An array, a tensor or a range as a list; anything else as it is."""
    if isinstance(value, range):
        return list(value)
    return _python(value, axes=True)


def _python(value: Any, axes: bool = False) -> Any:
    """A tensor or an array without axes (or with axes) as what Python has for it; anything else as
    it is.

    Raises:
        ValueError: a tensor that holds no values (on the device meta), or only some (sparse).
    """
    if not hasattr(value, "tolist") or (getattr(value, "ndim", 0) > 0) != axes:
        return value
    return value.tolist() if has_values(value) else None


def has_values(value: Any) -> bool:
    """Whether an array or a tensor is dense, and on a device that stores its values."""
    on_meta = getattr(getattr(value, "device", None), "type", None) == "meta"
    return not on_meta and "strided" in str(getattr(value, "layout", "strided"))


def array_of_values(value: Any) -> Any:
    """A tensor, an array or a (nested) sequence of numbers, truths or words, as it is.

    Raises:
        ValueError: anything else, also rows of different lengths.
    """
    kind = _kind(value)
    if kind not in "biufUS":
        raise ValueError("no values of one kind")
    return value


def _kind(value: Any) -> str:
    """NumPy's letter for the kind of the values: b, i, u, f, U, S ...; complex and others too.

    Raises:
        ValueError: no array, or rows of different lengths.
    """
    if not has_values(value) or isinstance(value, str | bytes | dict | set):
        raise ValueError("no values")
    if getattr(value, "ndim", 1) == 0:
        raise ValueError("no array")
    if hasattr(value, "is_floating_point"):  # a tensor: NumPy doesn't know all its types
        floats = value.is_floating_point()
        return "f" if floats else "c" if value.is_complex() else "b" if "bool" in str(value.dtype) else "i"
    array = np.asarray(value)  # raises for ragged rows
    if not array.ndim:
        raise ValueError("no array")
    return array.dtype.kind


def tuple_of_list(value: Any) -> Any:
    """A list, as JSON has it, as a tuple; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


def array_of_numbers(value: Any) -> Any:
    """A tensor, an array or a (nested) sequence of real numbers, as it is.

    Raises:
        ValueError: anything else.
    """
    if _kind(value) not in "iuf":
        raise ValueError("no numbers")
    return value


def index_or_indices(value: Any) -> Any:
    """What selects along an axis, in its canonical form: an int, a slice of ints, or a list of
    ints. A mask of booleans selects where it is True.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, slice):
        bounds = (value.start, value.stop, value.step)
        return slice(*(None if bound is None else whole_number(bound) for bound in bounds))
    value = elements(value)
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return whole_number(value)
    if len(value) and all(isinstance(one, bool | np.bool_) for one in value):
        return [place for place, chosen in enumerate(value) if chosen]
    return [whole_number(one) for one in value]


@dataclass(frozen=True)
class Canonical:
    """A function that gives the canonical form of an argument, or raises ValueError."""

    form: Any


Indices = Annotated[
    Any,
    Canonical(index_or_indices),
    Meaning("a whole number, a slice, or a list, array or mask of whole numbers"),
]
"""What selects along an axis: int | slice | list[int] when the function receives it."""


def all_finite(value: Any) -> bool:
    """Whether a tensor holds values, and neither NaN nor infinity."""
    return has_values(value) and bool(value.isfinite().all())


FINITE = Predicate(all_finite)
"""For a type of tensors: Annotated[Float[Tensor, "sample width"], FINITE]."""

Values = Annotated[
    Any, Canonical(array_of_values), Meaning("an array, a tensor or a list of values, rows of one length")
]
Numbers = Annotated[
    Any,
    Canonical(array_of_numbers),
    Meaning("an array, a tensor or a list of real numbers, rows of one length"),
]
FilePath = Annotated[
    str | os.PathLike[str], Predicate(lambda path: "\0" not in os.fspath(path)), Meaning("a path")
]
"""A path of a file or a folder, whether it exists or not."""


def mask_or_numbers(value: Any) -> Any:
    """A mask of booleans, or whole numbers, as an array or a (nested) sequence; one number as a
    list.

    Raises:
        ValueError: anything else.
    """
    if getattr(value, "ndim", 0) == 0 and not isinstance(value, Sequence):
        return [whole_number(value)]
    if _kind(value) not in "biu" and len(value):
        raise ValueError("neither booleans nor whole numbers")
    return value


MaskOrPositions = Annotated[
    Any, Canonical(mask_or_numbers), Meaning("a mask of positions, or their numbers (whole numbers)")
]
