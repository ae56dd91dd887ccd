"""to_json: a value as plain numbers, lists, strings and objects."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor


@singledispatch
def to_json(value: Any) -> Any:
    """Plain numbers, lists, strings and objects; NaN and infinity become None, as JSON has neither.

    A dataclass becomes an object of its fields, and any other value its `str`. A class that needs
    another form registers it with `@to_json.register`.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    return value if isinstance(value, str | int | bool | None) else str(value)


def rounded(value: Any, digits: int, **digits_of: int) -> Any:
    """JSON values with fractions of so many significant digits.

    Arguments:
        digits_of: by key of an object: those of what stands under it.
    """
    if isinstance(value, dict):
        return {key: rounded(x, digits_of.get(key, digits), **digits_of) for key, x in value.items()}
    if isinstance(value, list):
        return [  # numbers, of which there are many, without a call of their own
            x
            if type(x) is int
            else _short(x, digits)
            if type(x) is float
            else rounded(x, digits, **digits_of)
            for x in value
        ]
    return _short(value, digits) if isinstance(value, float) else value


def _short(value: float, digits: int) -> float:
    """A fraction of so many significant digits; other numbers as they are."""
    return value if value.is_integer() or not math.isfinite(value) else float(f"{value:.{digits}g}")


@to_json.register
def _(value: Tensor) -> Any:
    precise = torch.float64 if value.is_floating_point() else value.dtype
    numbers = value.detach().cpu().to(precise)
    plain = not value.is_complex() and bool(numbers.isfinite().all())
    return numbers.tolist() if plain else to_json(numbers.tolist())


@to_json.register
def _(value: Enum) -> Any:
    return {"name": value.name, "sentence": str(value.value)}


@to_json.register
def _(value: Mapping) -> Any:
    return {str(key): to_json(inner) for key, inner in value.items()}


@to_json.register
def _(value: complex) -> Any:
    return [to_json(value.real), to_json(value.imag)]


@to_json.register(list)
@to_json.register(tuple)
@to_json.register(range)
def _(value: Any) -> Any:
    return [to_json(inner) for inner in value]


@to_json.register
def _(value: float) -> Any:
    return value if math.isfinite(value) else None


@to_json.register(np.ndarray)
@to_json.register(np.generic)
def _(value: Any) -> Any:
    return to_json(value.tolist())
