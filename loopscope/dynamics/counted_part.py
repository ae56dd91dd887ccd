"""The part of a state that counts, as the state of a smaller map: of each row the positions that
count, one after the other, and zeros up to the longest row."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor


class CountedPart:
    """Moves values between all positions and those that count."""

    def __init__(self, mask: Bool[Tensor, "row position"], length: int | None = None) -> None:
        """
        Arguments:
            mask: which positions count.
            length: of the longest row; None: as the mask has it.
        """
        self.mask = mask
        self.length = int(mask.sum(1).max()) if length is None else length
        # those that count in their order, then others, which fill up the shorter rows
        self.index = (~mask).int().argsort(dim=1, stable=True)[:, : self.length]
        self.valid = mask.gather(1, self.index)

    def select(self, rows: Sequence[int]) -> "CountedPart":
        """The part of some rows, of the same length."""
        return CountedPart(self.mask[list(rows)], self.length)

    def take(self, x: Tensor) -> Tensor:
        """(row, position, ...) to (row, length, ...), zero beyond the end of a row."""
        index, valid = self._like(x)
        values = x.gather(1, index.expand(-1, -1, *x.shape[2:]))
        return torch.where(valid, values, torch.zeros_like(values))

    def put(self, y: Tensor, into: Tensor) -> Tensor:
        """`into` (row, position, ...) with the values y (row, length, ...) at the positions that
        count."""
        index, valid = self._like(y)
        index = index.expand(-1, -1, *y.shape[2:])
        return into.scatter(1, index, torch.where(valid, y, into.gather(1, index)))

    def on_positions(self, y: Tensor, absent: float) -> Tensor:
        """Values (row, ..., length) by their positions in the row, (row, ..., position); `absent`
        elsewhere."""
        shape = (*y.shape[:-1], self.mask.shape[1])
        result = torch.full(shape, absent, dtype=y.dtype, device=y.device)
        for row, mask in enumerate(self.mask):
            result[row][..., mask.to(y.device)] = y[row][..., : int(mask.sum())]
        return result

    def _like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Index and validity (row, length, 1 ...) on the device of x."""
        ones = (1,) * (x.ndim - 2)
        return self.index.reshape(*self.index.shape, *ones).to(x.device), self.valid.reshape(
            *self.valid.shape, *ones
        ).to(x.device)
