"""SolverRows: the rows of a search for fixed points, which every solver moves."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .jacobian import Map, apply_map
from .solution import Ending, Solution


class SolverRows:
    """Where each row is, its image, and whether it is done.

    Arguments:
        start: in the shape that the map knows.
        x: the rows, flat: (row, n).
        f: F of them, (row, n).
        least: the smallest norm that a row's residual is measured against, (row,).
        tolerance: of the residual.
        max_iterations: the largest number of iterations.
    """

    def __init__(
        self,
        map: Map,
        start: Tensor,
        x: Tensor,
        f: Tensor,
        *,
        least: Tensor,
        tolerance: float,
        max_iterations: int,
    ) -> None:
        self.map, self.start, self.least, self.tolerance, self.max_iterations = (
            map,
            start,
            least,
            tolerance,
            max_iterations,
        )
        self.x, self.f = x, f
        self._places = list(range(len(x)))
        self._part = map
        """The map for the rows in `_places`."""
        self.used = torch.zeros(len(x), dtype=torch.int64)
        """Iterations used by each row."""
        self.overflow = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.stuck = torch.zeros_like(self.overflow)
        """Rows for which the method found no smaller residual."""
        self._mark_overflow(0)

    def F(self, x: Float[Tensor, "row n"]) -> Float[Tensor, "row n"]:
        """F of flat rows."""
        return image(self.map, x, self.start)

    def row_map(self, place: int) -> Callable[[Tensor], Tensor]:
        """F of one row, (n,) to (n,)."""
        selecting: Any = self.map
        if hasattr(selecting, "select_rows"):
            one = selecting.select_rows([place])
            return lambda x: image(one, x[None], self.start)[0]
        x = self.x.clone()

        def row_image(row: Tensor) -> Tensor:
            x[place] = row
            return self.F(x)[place]

        return row_image

    def residual(self) -> Float[Tensor, " row"]:
        """‖F(x) - x‖ / size of each row."""
        size = torch.maximum(self.x.norm(dim=1), self.least)
        gap = (self.f - self.x).norm(dim=1)
        return torch.where(gap == 0, gap, gap / size)

    def unfinished(self) -> Bool[Tensor, " row"]:
        """The rows that are still searching."""
        return ~(self.overflow | self.stuck | (self.residual() <= self.tolerance))

    def move(self, to: Float[Tensor, "row n"], rows: Bool[Tensor, " row"], k: int) -> None:
        """Move `rows` to their new places; they are iterate number k."""
        self.x = torch.where(rows[:, None], to, self.x)
        self.f = self._images(rows)
        self.used[rows.cpu()] = k
        self._mark_overflow(k)

    def _images(self, rows: Tensor) -> Tensor:
        """F of `rows`, and the present images of the others. Where the map has `select_rows`, rows
        that are done are left out each time that half of them are: a map for fewer rows has its own
        cost."""
        places = rows.nonzero()[:, 0].tolist()
        if not places:
            return self.f
        selecting: Any = self.map
        if not hasattr(selecting, "select_rows") or not set(places) <= set(self._places):
            return torch.where(rows[:, None], self.F(self.x), self.f)
        if len(places) <= len(self._places) // 2:
            self._places = places
            self._part = selecting.select_rows(self._places)
        images = self.f.clone()
        images[self._places] = image(self._part, self.x[self._places], self.start)
        return torch.where(rows[:, None], images, self.f)

    def _mark_overflow(self, k: int) -> None:
        """Set rows that overflowed to zero, so that they can't spoil an operation on all rows."""
        new = ~(self.x.isfinite().all(1) & self.f.isfinite().all(1)) & ~self.overflow
        # where x itself is finite, its image overflows, which is the next iterate
        late = new & self.x.isfinite().all(1)
        self.used[new.cpu()] = k
        self.used[late.cpu()] = k + 1
        self.overflow |= new
        self.x = torch.where(self.overflow[:, None], torch.zeros_like(self.x), self.x)
        self.f = torch.where(self.overflow[:, None], torch.zeros_like(self.f), self.f)

    def solution(self, start: Tensor, method: str) -> Solution:
        """The rows as they are now, in the shape of `start`."""
        nan = torch.tensor(float("nan"), dtype=self.x.dtype, device=self.x.device)
        residual = torch.where(self.overflow, nan, self.residual())
        converged = residual <= self.tolerance
        endings = tuple(
            Ending.overflow
            if over
            else Ending.converged
            if ok
            else Ending.stuck
            if stuck
            else Ending.out_of_iterations
            for over, ok, stuck in zip(
                self.overflow.tolist(), converged.tolist(), self.stuck.tolist(), strict=True
            )
        )
        point = torch.where(self.overflow[:, None], nan, self.x).reshape(start.shape)
        return Solution(
            point=point,
            residual=residual.double(),
            iterations=self.used,
            converged=converged,
            endings=endings,
            method=method,
            tolerance=self.tolerance,
        )


def image(map: Map, x: Float[Tensor, "row n"], start: Tensor) -> Float[Tensor, "row n"]:
    """F of flat rows, in the shape that the map knows from `start`."""
    with torch.no_grad():
        shape = start.shape if x.numel() == start.numel() else (len(x), *start.shape[1:])
        return apply_map(map, x.reshape(shape)).reshape(x.shape)
