"""What a recording keeps, for loops too long or too wide to keep whole. Parts combine with `&`:

keep = ls.keep.every(4) & ls.keep.positions(-1)
run = ls.record(model, tokens, iterations=4096, keep=keep)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.indexing import select


@dataclass(frozen=True)
class Keep:
    """Which iterations and positions of each site stay, and what is left of their values."""

    stride: int = 1
    """Iterations 0, stride, 2 stride ..."""
    last: int | None = None
    """Only so many of the last iterations."""
    positions: tuple[int, ...] | None = None
    reduce: Callable[[Tensor], Tensor] | None = None
    """What is stored in place of a value; (batch, position, width) in, batch first out."""

    def __and__(self, other: "Keep") -> "Keep":
        changed = {name: value for name, value in vars(other).items() if value != getattr(Keep(), name)}
        return replace(self, **changed)

    def value(self, value: Tensor, axes: tuple[str, ...], site: str) -> tuple[Tensor, tuple[str, ...]]:
        """What stays of one value, and the names of its axes."""
        if self.positions is not None and "position" in axes:
            selection = tuple(list(self.positions) if name == "position" else slice(None) for name in axes)
            value = select(value, selection, f"'{site}'")
        if self.reduce is not None:
            value = self.reduce(value)
            if not isinstance(value, Tensor) or value.ndim > len(axes):
                raise LoopscopeError(
                    f"keep.reduce must turn a tensor with axes {axes} into a tensor with no more axes, but "
                    f"gave {getattr(value, 'shape', type(value).__name__)}. Reduce over the last axes."
                )
            axes = axes[: value.ndim]
        return value, axes

    @property
    def whole(self) -> bool:
        """Whether each value that stays is the value itself."""
        return self.positions is None and self.reduce is None

    def __str__(self) -> str:
        parts = [f"every({self.stride})"] * (self.stride != 1) + [f"last({self.last})"] * (
            self.last is not None
        )
        parts += [f"positions({list(self.positions)})"] if self.positions is not None else []
        parts += [getattr(self.reduce, "__name__", "reduce")] if self.reduce is not None else []
        return " & ".join(parts) or "everything"


def every(stride: int) -> Keep:
    """Iterations 0, stride, 2 stride ..."""
    return Keep(stride=_positive(stride, "every"))


def last(count: int) -> Keep:
    """The last `count` entries of each site; memory stays bounded while the loop runs."""
    return Keep(last=_positive(count, "last"))


def positions(where: int | Sequence[int]) -> Keep:
    """Only these positions; the position axis stays, in the order given."""
    return Keep(positions=(where,) if isinstance(where, int) else tuple(where))


def reduce(function: Callable[[Tensor], Tensor]) -> Keep:
    """`function(value)` in place of each value, such as `lambda x: x.mean(1)`."""
    return Keep(reduce=function)


def _norm(value: Tensor) -> Tensor:
    return torch.linalg.vector_norm(value, dim=-1)


_norm.__name__ = "norms"

norms = Keep(reduce=_norm)
"""The Euclidean norm over the last axis in place of each value: (batch, position)."""


def _positive(number: int, name: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise LoopscopeError(f"keep.{name} needs a whole number, 1 or more, but got {number!r}.")
    return number
