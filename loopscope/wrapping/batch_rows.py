"""The rows that are still in the batch, for a model that drops those that have halted.

A model that continues with some rows selects them by a mask, by indices or by a slice. At the level
of tensor operations, every such selection from a tensor with the batch's size shows which rows
remain.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_SELECTIONS = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_select.default,
    torch.ops.aten.slice.Tensor,
}


class BatchRows(TorchDispatchMode):
    """Tracks the rows of a batch while a module runs."""

    def __init__(self) -> None:
        super().__init__()
        self.batch: int | None = None
        """The number of rows at the first iteration."""
        self.remaining: Tensor | None = None
        """The remaining rows, by their index in the first batch; None if they can't be
        determined."""
        self._selected: dict[int, Tensor] = {}

    def at(self, count: int) -> Tensor | None:
        """The rows of a batch of `count` rows, at a call of the loop's body."""
        if self.batch is None:
            self.batch, self.remaining = count, torch.arange(count)
        elif self.remaining is not None and count != len(self.remaining):
            selected = self._selected.get(count)
            self.remaining = (
                None if selected is None or count > len(self.remaining) else self.remaining[selected]
            )
            self._selected = {}
        return self.remaining

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (
            func in _SELECTIONS
            and self.remaining is not None
            and args[0].ndim
            and len(args[0]) == len(self.remaining)
        ):
            rows = self._rows(func, args)
            if rows is not None and len(rows) < len(self.remaining):
                self._selected[len(rows)] = rows
        return out

    def _rows(self, func: Any, args: Any) -> Tensor | None:
        assert self.remaining is not None
        every = torch.arange(len(self.remaining))
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
