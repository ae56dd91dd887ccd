"""Tokens, output and further inputs of a run, as JSON with its tensors beside it.

Each value is an object of one key that says what it is: {"plain": 3}, {"tensor": the tensor's
name in the file}, {"tuple": [...]}, {"dict": [[key, value], ...]} ...
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..common.errors import LoopscopeError

MOST_NESTING = 30
"""Containers inside each other."""


class Unwritable(TypeError):
    """The value, or a part of it, can't be written: the text is the name of its type."""


def pack(value: Any, keep: Callable[[Tensor], str], depth: int = 0) -> dict[str, Any]:
    """A value as JSON.

    Arguments:
        keep: keeps a tensor for the file, and returns its name there.

    Raises:
        Unwritable: a part of it is of a type that can't be read back without its code.
    """

    def inner(part: Any) -> dict[str, Any]:
        return pack(part, keep, depth + 1)

    if depth > MOST_NESTING:
        raise Unwritable(f"container inside more than {MOST_NESTING} others")
    if isinstance(value, Tensor):
        return {"tensor": keep(value)}
    if value is None or isinstance(value, str | bool | float) or _is_small(value):
        return {"plain": float(value) if isinstance(value, float) else value}
    if isinstance(value, np.generic) and value.dtype.kind in "biufc":
        return inner(value.item())
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return {"array": keep(_tensor(value))}
    for name, (kind, content, _) in _KINDS.items():
        if isinstance(value, kind):
            return {name: content(value)}
    if isinstance(value, Mapping):  # of transformers too, such as BatchEncoding and ModelOutput
        return {"dict": [[inner(key), inner(part)] for key, part in value.items()]}
    if isinstance(value, tuple | list | set | frozenset):
        name = "tuple" if isinstance(value, tuple) else "list" if isinstance(value, list) else "set"
        return {name: [inner(part) for part in value]}
    raise Unwritable(type(value).__name__)


def unpack(stored: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value that `pack` made JSON of.

    Raises:
        LoopscopeError: it isn't such JSON, or a tensor is missing.
    """
    if not isinstance(stored, dict) or len(stored) != 1:
        raise LoopscopeError("a value in its header isn't of the form {kind: content}")
    ((kind, content),) = stored.items()
    if kind in ("tensor", "array"):
        if not isinstance(content, str) or content not in tensors:
            raise LoopscopeError(f"the tensor {str(content)[:80]!r} isn't there")
        return tensors[content] if kind == "tensor" else tensors[content].numpy()
    if kind == "plain" and isinstance(content, str | int | float | bool | None):
        return content
    try:
        if kind in _KINDS:
            return _KINDS[kind][2](content)
        if kind == "dict":
            return {unpack(key, tensors): unpack(part, tensors) for key, part in content}
        if kind in ("tuple", "list", "set"):
            return {"tuple": tuple, "list": list, "set": set}[kind](unpack(part, tensors) for part in content)
    except (TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise LoopscopeError(f"a value of the kind {kind[:40]!r} can't be read ({error})") from error
    raise LoopscopeError(f"there is no kind of value called {kind[:40]!r}")


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{name!r} is no type of tensors")
    return dtype


_KINDS: dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "size": (torch.Size, list, torch.Size),
    "range": (range, lambda one: [one.start, one.stop, one.step], lambda parts: range(*parts)),
    "slice": (slice, lambda one: [one.start, one.stop, one.step], lambda parts: slice(*parts)),
    "complex": (complex, lambda one: [one.real, one.imag], lambda parts: complex(*parts)),
    "whole": (int, hex, lambda digits: int(digits, 16)),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "dtype": (torch.dtype, lambda one: str(one).removeprefix("torch."), _dtype),
    "device": (torch.device, str, torch.device),
}
"""Small values: the type, its content as JSON, and the value of such a content."""


def _is_small(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**53


def _tensor(array: np.ndarray) -> Tensor:
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    try:
        return torch.from_numpy(native.copy()).reshape(array.shape)
    except TypeError as error:  # long double
        raise Unwritable(f"array of {array.dtype}") from error
