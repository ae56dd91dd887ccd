"""Edits where a module works in place: what is written into an edited copy reaches the tensor that
the model goes on with."""

from typing import NamedTuple

from torch import Tensor

from .tensor_match import same_memory, same_values


class Passed(NamedTuple):
    """A tensor that a module received."""

    original: Tensor
    """The caller's."""
    value: Tensor
    """What the module got: the same, or an edited copy."""
    before: Tensor | None
    """What it held then; None if no edit applies in this pass."""


def follow_in_place(value: Tensor, new: Tensor, passed: Passed) -> Tensor:
    """What a module's caller gets in place of `value`, which the module returned, if `new` should
    be there.

    A module that works in place returns the memory that it received, and its caller may not use
    what it returns. Then the edit is written to that memory, too.
    """
    if passed.before is None or same_values(passed.value, passed.before):
        return new  # it wrote nothing, or nothing is edited
    returns_input = same_memory(value, passed.value)
    if new is not value and returns_input:
        value.copy_(new)
        new = value
    if passed.value is not passed.original:
        passed.original.copy_(passed.value)
        new = passed.original if returns_input else new
    return new
