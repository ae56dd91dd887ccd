"""Rows: which examples are still in the batch, where a model drops those that have halted.

A model that goes on with some rows picks them by an index: a mask, numbers, a slice. Seen from
below the module, where every operation passes, such a pick of the batch's size tells which rows are
left, whatever it picked them from.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_PICKS = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_select.default,
    torch.ops.aten.slice.Tensor,
}


class Rows(TorchDispatchMode):
    """Follows the rows of a batch while a module runs."""

    def __init__(self) -> None:
        super().__init__()
        self.batch: int | None = None
        """How many there were at first."""
        self.left: Tensor | None = None
        """Those that are left, by their number in the first batch; None where that can't be
        told."""
        self._picked: dict[int, Tensor] = {}

    def at(self, count: int) -> Tensor | None:
        """The rows of a batch of `count`, at a call of the loop's body."""
        if self.batch is None:
            self.batch, self.left = count, torch.arange(count)
        elif self.left is not None and count != len(self.left):
            picked = self._picked.get(count)
            self.left = None if picked is None or count > len(self.left) else self.left[picked]
            self._picked = {}
        return self.left

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in _PICKS and self.left is not None and args[0].ndim and len(args[0]) == len(self.left):
            rows = self._rows(func, args)
            if rows is not None and len(rows) < len(self.left):
                self._picked[len(rows)] = rows
        return out

    def _rows(self, func: Any, args: Any) -> Tensor | None:
        assert self.left is not None
        every = torch.arange(len(self.left))
        if func is torch.ops.aten.index.Tensor:
            index = args[1][0]
            return (
                None
                if index is None or index.ndim != 1 or any(i is not None for i in args[1][1:])
                else every[index.cpu()]
            )
        if func is torch.ops.aten.index_select.default:
            return every[args[2].cpu()] if args[1] in (0, -args[0].ndim) else None
        dim = args[1] if len(args) > 1 else 0
        begin, end = (args[i] if len(args) > i else None for i in (2, 3))
        step = args[4] if len(args) > 4 else 1
        return every[begin:end:step] if dim in (0, -args[0].ndim) else None
