"""What a recording keeps, for loops that are too long or too wide to keep whole. Rules combine with
`&`:

>>> keep = ls.keep.every(4) & ls.keep.positions(-1)
>>> run = ls.record(model, tokens, iterations=4096, keep=keep)
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..common.arguments import Indices, PositiveCount
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..core.indexing import select
from .kept_form import Device, ShortDtype, shortened


@dataclass(frozen=True)
class Keep:
    """Which iterations and positions of each site are kept, and what is stored of their values."""

    stride: int = 1
    """Iterations 0, stride, 2 stride ..."""
    last: int | None = None
    """How many of the last iterations are kept; None: all."""
    positions: tuple[int, ...] | slice | None = None
    """The positions to keep; None: all."""
    reduce: Callable[[Tensor], Tensor] | None = None
    """Maps a value (batch, position, width) to what is stored in its place, batch first."""
    device: torch.device | None = None
    """Where values are stored; None: where they were computed."""
    dtype: torch.dtype | None = None
    """What more precise floating-point values are rounded to; None: stored as they were
    computed."""

    def __and__(self, other: "Keep") -> "Keep":
        changed = {name: value for name, value in vars(other).items() if value != getattr(Keep(), name)}
        return replace(self, **changed)

    def value(self, value: Tensor, axes: tuple[str, ...], site: str) -> tuple[Tensor, tuple[str, ...]]:
        """What is stored of one value, and the names of its axes.

        Raises:
            LoopscopeError: `reduce` gives no tensor, or one with more axes; or `dtype` is too
                narrow for the value.
        """
        if self.positions is not None and "position" in axes:
            where = self.positions if isinstance(self.positions, slice) else list(self.positions)
            selection = tuple(where if name == "position" else slice(None) for name in axes)
            value = select(value, selection, f"'{site}'")
        if self.reduce is not None:
            value = self.reduce(value)
            if not isinstance(value, Tensor) or value.ndim > len(axes):
                raise LoopscopeError(
                    f"keep.reduce must turn a tensor with axes {axes} into a tensor with no more axes, but "
                    f"gave {getattr(value, 'shape', type(value).__name__)}. Reduce over the last axes."
                )
            axes = axes[: value.ndim]
        if self.dtype is not None:  # before it moves: there is less to move then
            value = shortened(value, self.dtype, site)
        return value if self.device is None else value.to(self.device), axes

    @property
    def whole(self) -> bool:
        """Whether all numbers of a value are stored."""
        return self.positions is None and self.reduce is None

    @property
    def everything(self) -> bool:
        """Whether every value is stored, with all its digits."""
        return replace(self, device=None) == Keep()

    def __str__(self) -> str:
        parts = [f"every({self.stride})"] * (self.stride != 1) + [f"last({self.last})"] * (
            self.last is not None
        )
        parts += [f"positions({self.positions})"] if self.positions is not None else []
        parts += [getattr(self.reduce, "__name__", "reduce")] if self.reduce is not None else []
        form = [str(part).removeprefix("torch.") for part in (self.device, self.dtype) if part is not None]
        parts += [f"to({', '.join(form)})"] * bool(form)
        return " & ".join(parts) or "everything"


@guarded
def every(stride: PositiveCount) -> Keep:
    """Keep iterations 0, stride, 2 stride ...

    >>> ls.record(model, tokens, iterations=4096, keep=ls.keep.every(64))
    """
    return Keep(stride=stride)


@guarded
def last(count: PositiveCount) -> Keep:
    """Keep the last `count` entries of each site; memory stays bounded while the loop runs.

    >>> ls.record(model, tokens, iterations=4096, keep=ls.keep.last(2))
    """
    return Keep(last=count)


@guarded
def positions(where: Indices) -> Keep:
    """Keep these positions, in this order; the position axis stays.

    >>> ls.record(model, tokens, keep=ls.keep.positions([0, -1]))
    """
    if isinstance(where, slice):
        return Keep(positions=where)
    return Keep(positions=(where,) if isinstance(where, int) else tuple(where))


@guarded
def reduce(function: Callable[[Tensor], Tensor]) -> Keep:
    """Store `function(value)` in place of each value.

    >>> ls.record(model, tokens, keep=ls.keep.reduce(lambda x: x.mean(1)))
    """
    return Keep(reduce=function)


@guarded
def to(*, device: Device = None, dtype: ShortDtype = None) -> Keep:
    """Store values on another device, in a shorter dtype, or both.

    >>> ls.record(model, tokens, keep=ls.keep.to(device="cpu", dtype=torch.float16))

    A value is moved as soon as it is computed, so that states take no room on the model's device.
    What is computed from them later moves them back.

    A run of shortened states is measured with the precision of the short dtype, and can't be
    resumed, as that would give other states than the model's own. Its logits and lenses are
    computed from the rounded states. float16 has numbers from 6e-8 to 65504; bfloat16 has the
    range of float32, and 8 times fewer steps between two powers of 2 than float16.

    Arguments:
        device: such as "cpu"; None: where they are computed.
        dtype: torch.float32, torch.float16 or torch.bfloat16. Values that are no more precise, and
            whole numbers, are stored as they are. None: all are.

    Raises:
        LoopscopeError: neither is passed, there is no such device, or (in the recording) a value
            that is finite isn't in the short dtype, or the run is recorded with grad=True.
    """
    if device is None and dtype is None:
        raise LoopscopeError(
            'keep.to needs a device or a dtype, but has neither. Try ls.keep.to(device="cpu").'
        )
    return Keep(device=device, dtype=dtype)


def _norm(value: Tensor) -> Tensor:
    return torch.linalg.vector_norm(value, dim=-1)


_norm.__name__ = "norms"

norms = Keep(reduce=_norm)
"""Store the Euclidean norm over the last axis in place of each value: (batch, position)."""
