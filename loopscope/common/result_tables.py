"""The numbers of a result as tables of pandas, and as a table for LaTeX.

The rule: `result.to_pandas()` has the estimates and every field that is one number, a row each.
`result.to_pandas("step")` has one field in long format: a column for each axis, as the shape beside
the field names them, and a column with the numbers. An axis has the coordinates of the field of its
plural name (`iterations` for `iteration`), where there is one of that length; otherwise it counts
from 0. A field inside another one has a dotted name, and what has several elements a column that
says which.
"""

import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .errors import LoopscopeError, nearest
from .tidy_table import pandas, tidy

if TYPE_CHECKING:
    from .analysis_result import AnalysisResult


@dataclass(frozen=True)
class FieldArray:
    """A field's array, with what is needed to make a table of it."""

    values: Any
    axes: tuple[str, ...]
    elements: tuple[tuple[str, Any], ...]
    """Of the sequences and mappings around it: the field's name, and which element."""
    owners: tuple[Any, ...]
    """The dataclasses around it, the innermost first."""
    keys: tuple[Any, ...] | None = None
    """The coordinates of the only axis, of a mapping of numbers."""


def estimates_table(result: "AnalysisResult") -> Any:
    """A DataFrame with the columns name, value, low and high: the estimates with their intervals,
    then the fields that are one number. `.attrs` has the verdict."""
    rows = [(e.name, e.value, e.low, e.high) for e in result.evidence.estimates]
    for field in fields(result):
        value = getattr(result, field.name)
        if isinstance(value, int | float) or (
            value is None and {int, float} & set(typing.get_args(field.type))
        ):
            rows.append((field.name, math.nan if value is None else float(value), math.nan, math.nan))
    table = pandas().DataFrame(rows, columns=["name", "value", "low", "high"])
    numbers = ["value", "low", "high"]
    table[numbers] = table[numbers].astype(float)
    table.attrs = {"verdict": result.verdict.name, "sentence": result.sentence}
    return table


def field_table(result: "AnalysisResult", name: str) -> Any:
    """One field as a DataFrame in long format.

    Raises:
        LoopscopeError: no field of that name holds an array.
    """
    arrays = field_arrays(result)
    if name not in arrays:
        raise LoopscopeError(
            f"to_pandas takes the name of a field that holds an array, but {name!r} isn't one of "
            f"{type(result).__name__}. {nearest(str(name), arrays)}"
        )
    column = name.rpartition(".")[2]
    tables = []
    for array in arrays[name]:
        taken = {*array.axes, *(element for element, _ in array.elements)}
        values = {"value" if column in taken else column: array.values}
        table = tidy(values, array.axes, _coordinates(array, column))
        for place, (element, which) in enumerate(array.elements):
            table.insert(place, element, which)
        tables.append(table)
    return pandas().concat(tables, ignore_index=True)


def field_arrays(result: Any) -> dict[str, list[FieldArray]]:
    """Every array in a result, by the dotted name of its field; several where it is in a sequence
    or a mapping."""
    arrays: dict[str, list[FieldArray]] = {}
    for name, array in _arrays(result, "", (), ()):
        arrays.setdefault(name, []).append(array)
    return arrays


def _arrays(
    owner: Any, prefix: str, elements: tuple[tuple[str, Any], ...], owners: tuple[Any, ...]
) -> Iterator[tuple[str, FieldArray]]:
    for field in fields(owner):
        if field.name != "evidence":  # its numbers are in the table of estimates
            value = getattr(owner, field.name)
            yield from _value_arrays(value, field.type, f"{prefix}{field.name}", elements, (owner, *owners))


def _value_arrays(
    value: Any, hint: Any, name: str, elements: tuple[tuple[str, Any], ...], owners: tuple[Any, ...]
) -> Iterator[tuple[str, FieldArray]]:
    if isinstance(value, Tensor):
        yield name, FieldArray(value, _axes(hint, value.ndim), elements, owners)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _arrays(value, f"{name}.", elements, owners)
    elif isinstance(value, list | tuple) and value and all(isinstance(v, _SCALARS) for v in value):
        plain = [one.name if isinstance(one, Enum) else one for one in value]
        yield name, FieldArray(plain, ("index",), elements, owners)
    elif isinstance(value, Mapping) and value and all(isinstance(v, _SCALARS) for v in value.values()):
        yield name, FieldArray(list(value.values()), ("key",), elements, owners, tuple(value))
    elif isinstance(value, list | tuple | Mapping):
        column = name.rpartition(".")[2]
        depth = 1 + sum(taken == column or taken.startswith(f"{column}_") for taken, _ in elements)
        column = column if depth == 1 else f"{column}_{depth}"  # of a sequence in a mapping
        for which, inner in _named_elements(value):
            yield from _value_arrays(inner, hint, name, (*elements, (column, which)), owners)


_SCALARS = (int, float, complex, str, Enum)


def _named_elements(value: Any) -> list[tuple[Any, Any]]:
    """The elements of a mapping by key, of a sequence by the first text in them if that tells them
    apart, otherwise by number."""
    if isinstance(value, Mapping):
        return list(value.items())
    names = [
        next(
            (
                v
                for f in fields(one)
                if isinstance(v := getattr(one, f.name), str) and not isinstance(v, Enum)
            ),
            None,
        )
        if is_dataclass(one)
        else None
        for one in value
    ]
    is_unique = None not in names and len(set(names)) == len(names)
    return list(zip(names if is_unique else range(len(value)), value, strict=True))


def _axes(hint: Any, count: int) -> tuple[str, ...]:
    """The names of a tensor's axes from its jaxtyping annotation, each of them once."""
    texts = [text.split() for text in _shape_texts(hint)]
    names = next((text for text in texts if len(text) == count), None)
    if names is None:  # one of them stands for several axes, or there is no annotation
        names = [f"axis_{i}" for i in range(count)]
        for text in texts:
            several = next((i for i, name in enumerate(text) if name[0] in "*."), None)
            if several is not None and len(text) - 1 <= count:
                behind = len(text) - several - 1
                names[:several], names[count - behind :] = text[:several], text[len(text) - behind :]
    result: list[str] = []
    for i, name in enumerate(names):
        name = name.lstrip("*#_?.").partition("=")[0]
        name = name if name.isidentifier() else f"axis_{i}"
        repeats = names[:i].count(names[i])
        result.append(f"{name}_{repeats + 1}" if repeats else name)
    return tuple(result)


def _shape_texts(hint: Any) -> Iterator[str]:
    if hasattr(hint, "dim_str"):
        yield hint.dim_str
    for inner in typing.get_args(hint):
        yield from _shape_texts(inner)


def _coordinates(array: FieldArray, column: str) -> dict[str, Any]:
    """By axis, the values of the field of its plural name."""
    result: dict[str, Any] = {} if array.keys is None else {array.axes[0]: array.keys}
    for axis, size in zip(array.axes, _shape(array.values), strict=True):
        plural = f"{axis}s"
        values: Any = next((getattr(o, plural) for o in array.owners if hasattr(o, plural)), None)
        is_list = isinstance(values, list | tuple) and all(isinstance(v, int | float | str) for v in values)
        is_vector = isinstance(values, Tensor) and values.ndim == 1
        if plural != column and (is_list or is_vector) and len(values) == size:
            result[axis] = values
    return result


def _shape(values: Any) -> tuple[int, ...]:
    return tuple(values.shape) if isinstance(values, Tensor) else (len(values),)
