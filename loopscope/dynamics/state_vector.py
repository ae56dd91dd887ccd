"""StateVector: states of a loop as rows of numbers, and back.

The numbers are those of all floating-point tensors of the state; of a named tuple those that the
model lists as `recurrent_fields`, one after the other. With a `CountedPart` they are those of the
positions that count alone, with zeros up to the longest row.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..core.state_tree import State, float_items, from_tensors, items, tensors, with_items
from ..runs.run import Run
from .counted_part import CountedPart


class StateVector:
    """(row, n) from states of some rows, and states from (row, n)."""

    def __init__(self, run: Run, recurrent: Sequence[str], part: CountedPart | None = None) -> None:
        """
        Arguments:
            recurrent: names of the fields that are part of the vector; none: all.
            part: the positions that are; None: all.
        """
        self.like = run.state(run.states.iterations[0])
        self.recurrent, self.part, self.filler = tuple(recurrent), part, 0.0
        self.with_positions = _fields_with_positions(run, self.like)

    def fields(self, state: State) -> dict[str, Tensor]:
        """The tensors of a state that are part of the vector, by name."""
        names = self.recurrent or items(state)
        return {name: field for name, field in float_items(state).items() if name in names}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one row of a field in the vector."""
        field = items(self.like)[name]
        if self.part is None or name not in self.with_positions:
            return tuple(field.shape[1:])
        return (self.part.length, *field.shape[2:])

    def widths(self) -> dict[str, int]:
        """How many numbers of the vector each field has."""
        return {name: math.prod(self.shape(name)) for name in self.fields(self.like)}

    def flat(self, state: State) -> Float[Tensor, "row n"]:
        """A state as rows of the vector."""
        parts = []
        for name, field in self.fields(state).items():
            counted = self.part is not None and name in self.with_positions
            field = self.part.take(field) if counted and self.part is not None else field
            parts.append(field.reshape(len(field), -1))
        return torch.cat(parts, 1)

    def state(self, x: Float[Tensor, "row n"], others: State) -> Any:
        """Rows of the vector as a state.

        Arguments:
            others: a state of the same rows, with the fields that are no part of the vector.
        """
        widths = self.widths()
        pieces = dict(zip(widths, x.split(list(widths.values()), 1), strict=True))
        whole = {name: self._whole(name, piece) for name, piece in pieces.items()}
        if len(whole) == len(tensors(self.like)) == 1:
            return from_tensors(self.like, whole.values())
        return with_items(others, whole)

    def _whole(self, name: str, x: Tensor) -> Tensor:
        values = x.reshape(len(x), *self.shape(name))
        if self.part is None or name not in self.with_positions:
            return values
        size = items(self.like)[name].shape[1:]
        return self.part.put(values, x.new_full((len(x), *size), self.filler))

    def start_mask(self) -> Bool[Tensor, " n"]:
        """True for the numbers of the primary tensor and of others of its shape."""
        fields = self.fields(self.like)
        first = next(iter(fields.values())).shape
        return torch.cat(
            [torch.full((width,), fields[name].shape == first) for name, width in self.widths().items()]
        )

    def cleaned(self, x: Float[Tensor, "row n"]) -> Float[Tensor, "row n"]:
        """Rows with zeros beyond the end of each."""
        if self.part is None or bool(self.part.valid.all()):
            return x
        valid = self.part.valid.to(x.device)
        always = torch.ones_like(valid[:, :1])
        keep = [
            (valid if name in self.with_positions else always).repeat_interleave(
                width // (valid.shape[1] if name in self.with_positions else 1), 1
            )
            for name, width in self.widths().items()
        ]
        return torch.where(torch.cat(keep, 1), x, torch.zeros_like(x))

    def counted(self, leaf: Tensor) -> Tensor:
        """A tensor of the context at the positions that count, if it has positions."""
        return leaf if not self.has_positions(leaf) or self.part is None else self.part.take(leaf)

    def has_positions(self, leaf: Tensor) -> bool:
        """Whether a tensor of the context has the positions of which only some count."""
        return self.part is not None and leaf.ndim > 1 and leaf.shape[:2] == self.part.mask.shape


def _fields_with_positions(run: Run, like: State) -> set[str]:
    """The fields of the state whose second axis is that of the primary tensor's positions."""
    if run.states.axes[1:3] != ("batch", "position"):
        return set()
    size, result = run.states.shape[2], set()
    for number, (name, field) in enumerate(items(like).items()):
        site = f"state.{name}" if number else "state"
        named = site not in run or "position" in run[site].axes
        if named and field.shape[1:2] == (size,):
            result.add(name)
    return result
