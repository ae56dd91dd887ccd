"""FirstState: whether what the loop's body receives first is states[0].

It is, if every later call receives exactly the state that the one before returned: then nothing
comes between two calls, and nothing came before the first one either.
"""

import hashlib
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from ..core.sites import float_tensors, tensors_in
from .tensor_match import same_values

_LARGEST = 1 << 26
"""Bytes of inputs that are hashed at most."""


class FirstState:
    """What the first call of the body received and returned, and how the later ones follow."""

    def __init__(self, edits: bool, count: int, received_again: bool = True) -> None:
        """
        Arguments:
            edits: whether there are any edits in this pass.
            count: the number of the state's tensors.
            received_again: whether the body may receive the state as it was returned.
        """
        self.edits = edits
        self.inputs: list[Tensor] = []
        """The tensors of the state that the first call received, copied."""
        self.outputs: list[tuple[Any, Tensor]] = []
        """Every floating-point tensor that the first call returned, copied."""
        self.direct = [received_again] * count
        """By tensor, whether every later call received exactly what the one before returned."""
        self.constant = True
        """Whether every call received the same first tensor."""
        self.edited = False
        """Whether an edit was made at states[0]."""
        self.received: list[Tensor] = []
        """All tensors that the first call received, held so that no other one gets their memory."""
        self.digest: bytes | None = None
        """Of these; None if that is too large."""
        self.form: Any = None
        """What the first call received, without the numbers of its large floating-point tensors;
        None if that can't be compared."""

    def begin(self, values: list[Tensor], inputs: Any) -> None:
        """What the first call receives."""
        self.inputs = [value.detach().clone() for value in values]
        with suppress(TypeError):
            self.form = _form(inputs)
        if self.edits:
            self.received = [tensor for _, tensor in tensors_in(inputs)]
            self.digest = _digest(inputs)

    def repeated(self, inputs: Any, state: Tensor) -> bool:
        """Whether a later call receives the tensors of the first one, and nowhere this state.

        Equal values aren't enough: without the state, what is added to it is left.
        """
        if any(same_values(tensor, state) for _, tensor in float_tensors(inputs)):
            return False
        tensors = [tensor for _, tensor in tensors_in(inputs)]
        if [one.data_ptr() for one in tensors] != [one.data_ptr() for one in self.received]:
            return False
        return self.digest is not None and self.digest == _digest(inputs)

    def end(self, output: Any) -> None:
        """What the first call returns, before any edit."""
        self.outputs = [(path, tensor.detach().clone()) for path, tensor in float_tensors(output)]

    def compare(self, values: list[Tensor], last: list[Tensor]) -> list[bool]:
        """What a later call receives, and the state that it should be.

        Returns:
            by tensor, whether it is known to be that.
        """
        if any(self.direct):
            pairs = zip(self.direct, values, last, strict=True)
            self.direct = [direct and same_values(value, state) for direct, value, state in pairs]
        self.constant = self.constant and same_values(values[0], self.inputs[0])
        return self.direct

    def unknown(self, done: int) -> list[str | None]:
        """By tensor, why what the first call received isn't states[0], as a clause; None if nothing
        was seen that speaks against it.

        Arguments:
            done: the number of iterations.
        """
        if done < 2:
            once = (
                "the body was called only once, so it can't be seen whether something changes the state "
                "before each call"
            )
            return [once] * len(self.direct)
        between = (
            "something changes the state between two calls of the body, so what it was before the first "
            "call isn't seen"
        )
        return [None if direct else between for direct in self.direct]


def _form(value: Any) -> Any:
    """A value without the numbers of its floating-point tensors of two axes and more.

    Raises:
        TypeError: it has parts of other kinds, such as a cache.
    """
    if isinstance(value, Tensor):
        large = value.is_floating_point() and value.ndim > 1
        return value.dtype, tuple(value.shape), None if large else _digest(value)
    if value is None or isinstance(value, bool | int | float | str):
        return type(value), value
    if isinstance(value, tuple | list):
        return tuple(_form(part) for part in value)
    if isinstance(value, dict):
        return tuple((key, _form(part)) for key, part in value.items())
    raise TypeError(f"a {type(value).__name__} can't be compared")


def _digest(inputs: Any) -> bytes | None:
    tensors = list(tensors_in(inputs))
    if sum(tensor.nbytes for _, tensor in tensors) > _LARGEST:
        return None
    result = hashlib.blake2b()
    for path, tensor in tensors:
        dense = tensor.detach().cpu().contiguous()
        result.update(f"{path}{dense.dtype}{tuple(dense.shape)}".encode())
        result.update(dense.view(torch.uint8).numpy().tobytes() if dense.ndim else str(dense.item()).encode())
    return result.digest()
