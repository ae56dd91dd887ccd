"""Entry: one recorded value."""

from typing import NamedTuple

from torch import Tensor


class Entry(NamedTuple):
    """One recorded value."""

    loops: tuple[str, ...]
    index: tuple[int, ...]
    value: Tensor
    """On the device "meta" if the value is in a file."""
    axes: tuple[str, ...]
    version: int | None
    grad: bool
    """Whether it was computed with gradients enabled."""
    rows: Tensor | None = None
    """The numbers of its rows, if rows have left the batch; once the others are NaN, a mask."""
    stored: str | None = None
    """The name of a value that is in a file."""
