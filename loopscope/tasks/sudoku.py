"""Small Sudoku: 4 x 4 with boxes of 2 x 2 cells, 6 x 6 with boxes of 2 rows and 3 columns. One
solution each, always."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy import ndarray as Array
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from .sudoku_boards import as_bits, as_digits, completions, normal, rounds
from .sudoku_puzzles import BOXES, LEVELS, kinds, levels, pool, this_board, turned
from .task import Batch, Task, checked_size

_LIMIT = {4: 12, 6: 26}  # 4 x 4 needs four givens; few 6 x 6 can spare more than 26 of theirs
_USUAL = {4: 10, 6: 24}
_HARDER = 16  # blanks from which a 6 x 6 can be more than easy: of 600,000 with fewer none was


@dataclass(frozen=True)
class SudokuBatch(Batch):
    """Puzzles with their levels."""

    level: Int[Tensor, " batch"]
    """0 easy, 1 medium, 2 hard."""


@dataclass(frozen=True)
class Sudoku(Task):
    """Puzzles in reading order, all blanks asked at once. Every one has exactly one solution.

        1 2 . .        tokens   1 2 0 0 3 0 0 0 0 0 4 0 0 0 0 1
        3 . . .        targets  1 2 3 4 3 4 1 2 2 1 4 3 4 3 2 1    (asked in the blanks)
        . . 4 .
        . . . 1

    Difficulty is counted in rounds, of which the whole board is filled in: in each, all cells that
    can take only one digit; where there is none, all digits that can go to only one place of a row,
    column or box; where there is none either, a hint. Levels of 6 x 6 follow from that: easy never
    needs places, medium does, hard needs hints (a human would search). Cells alone solve every 4 x
    4, so there rounds make the level: easy up to 2, medium 3, hard 4 and 5.

    The number of blanks is drawn evenly from fewest..blanks; then, if `level` is given, puzzles of
    other levels go (few 6 x 6 with less than 22 blanks are more than easy).

    Which examples are for testing: of 4 x 4, whole classes of puzzles up to all symmetries (digits
    renamed, rows, columns, bands and stacks exchanged, transposed), drawn evenly from all that
    there are. Of 6 x 6, all puzzles whose solution, up to the names of digits, is for testing.
    These are made of 8192 puzzles that can't spare any given, dug out of evenly drawn grids when
    the first batch is asked for (in about two seconds): one of them is chosen, turned by a random
    symmetry, which keeps its one solution, and has random cells filled in, which does too.
    """

    size: int = 6
    """Digits, rows and columns: 4 or 6."""
    blanks: int | None = None
    """The most blanks; 10 of 4 x 4 and 24 of 6 x 6 unless given, up to 12 and 26."""
    fewest: int = 1
    """The fewest blanks."""
    level: str | None = None
    """If given, "easy", "medium" or "hard"."""

    name = "sudoku"
    dial = "blanks"
    difficulty = "rounds of filling in all that is plain"
    fixed = ("size",)
    causal = False
    blank = 0

    def __post_init__(self) -> None:
        checked_size(self.name, "size", self.size)
        if self.size not in BOXES:
            raise LoopscopeError(f"{self.name}'s size must be 4 or 6, but is {self.size!r}.")
        if self.blanks is None:
            object.__setattr__(self, "blanks", _USUAL[self.size])
        checked_size(self.name, "blanks", self.blanks)
        checked_size(self.name, "fewest", self.fewest)
        if self._most > self.limit:
            raise LoopscopeError(
                f"{self.name}'s blanks must be at most {self.limit} with size {self.size}, but is "
                f"{self.blanks}."
            )
        if self.fewest > self._most:
            raise LoopscopeError(
                f"{self.name}'s fewest must be at most its blanks, {self.blanks}, but is {self.fewest}."
            )
        if self.level is not None and self.level not in LEVELS:
            raise LoopscopeError(
                f"{self.name} has no level {self.level!r}. {nearest(str(self.level), list(LEVELS))}"
            )

    @property
    def symbols(self) -> tuple[str, ...]:
        return (".", *map(str, range(1, self.size + 1)))

    @property
    def limit(self) -> int:
        return _LIMIT[self.size]

    @property
    def shape(self) -> tuple[int, int]:
        return self.size, self.size

    def neighbours(self) -> Bool[Tensor, "position position"]:
        """Cells of the same row, column or box."""
        units = torch.from_numpy(this_board(self.size).units)
        member = torch.zeros(len(units), self.size**2).scatter_(1, units, 1.0)
        return ((member.T @ member) > 0).fill_diagonal_(False)

    def violations(self, answers: Int[Tensor, "*axes position"]) -> Bool[Tensor, "*axes position"]:
        """Cells whose digit stands again in their row, column or box; a blank breaks no rule."""
        same = (answers[..., :, None] == answers[..., None, :]) & (answers != self.blank)[..., :, None]
        return (same & self.neighbours().to(answers.device)).any(-1)

    @property
    def _most(self) -> int:
        return self.blanks or _USUAL[self.size]

    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        tokens = self._checked(tokens)
        return torch.from_numpy(as_digits(self._solved(tokens)[1])).to(tokens.device)

    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        return self._checked(tokens) == 0

    def _checked(self, tokens: Any) -> Int[Tensor, "batch position"]:
        tokens = super()._checked(tokens)
        if tokens.shape[1] != self.size**2:
            raise LoopscopeError(
                f"{self.name} of size {self.size} needs its {self.size**2} cells in reading order, 0 where "
                f"one is blank, but got {tokens.shape[1]} positions."
            )
        return tokens

    def _solved(self, tokens: Int[Tensor, "batch position"]) -> tuple[Array, Array]:
        """Given digits and solutions, as bits (cell, board)."""
        this, given = this_board(self.size), as_bits(tokens.cpu().numpy())
        count, solution = completions(this, np.where(given == 0, this.full, given))
        if (count != 1).any():
            first = int(np.flatnonzero(count != 1)[0])
            told = "none" if count[first] == 0 else "several"
            raise LoopscopeError(
                f"{self.name} needs puzzles with exactly one solution, but that of row {first}, "
                f"{self.render(tokens[first : first + 1].cpu())[0]}, has {told}. Use the tokens of this "
                "task's own batches."
            )
        return given, solution

    def _draw(self, size: int, generator: torch.Generator, /, **chosen: Any) -> Int[Tensor, "batch position"]:
        low, high, level = chosen["fewest"], chosen["blanks"], chosen["level"]
        if level is not None:
            size = max(size, 1024)  # many will go
            low = max(low, min(high, _HARDER)) if self.size == 6 and level != "easy" else low

        def rand(*shape: int) -> Array:
            return torch.rand(shape, generator=generator, dtype=torch.float64).numpy()

        known, this = pool(self.size, level), this_board(self.size)
        blanks = (low + rand(size) * (high + 1 - low)).astype(int)
        # of 4 x 4 all puzzles are known: take one with so many blanks; of 6 x 6, one with no fewer,
        # and fill some in
        first = np.searchsorted(-known.blanks, -blanks) if self.size == 4 else np.zeros_like(blanks)
        behind = np.searchsorted(-known.blanks, -blanks, side="right")
        entry = (first + rand(size) * (behind - first)).astype(int)[behind > first]
        blanks = blanks[behind > first]
        puzzles, full = known.puzzles[entry], known.grids[entry]
        rank = np.where(puzzles == 0, rand(*puzzles.shape), 2).argsort(1).argsort(1)
        puzzles = np.where(rank < blanks[:, None], 0, full)
        if level is not None:
            result = rounds(this, as_bits(puzzles), as_bits(full))
            puzzles = puzzles[levels(self.size, *result) == LEVELS.index(level)]
        return torch.from_numpy(
            turned(puzzles, self.size, rand(len(puzzles), 3), rand(len(puzzles), self.size))
        )

    def _space(self, **chosen: Any) -> int:
        if self.size == 6:
            return 28_200_960  # grids; there are more puzzles
        known = pool(4, chosen["level"])
        asked = (known.blanks >= chosen["fewest"]) & (known.blanks <= chosen["blanks"])
        return len(np.unique(known.kinds[asked]))

    def _identity(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch part"]:
        tokens = self._checked(tokens)
        full = as_digits(self._solved(tokens)[1])
        if self.size == 4:
            return torch.from_numpy(kinds(tokens.cpu().numpy() != 0, full)[:, None])
        rows = normal(full, self.size).reshape(len(full), self.size, self.size)[:, 1:]
        return torch.from_numpy(rows @ 7 ** np.arange(self.size))  # the first row is always 1 2 3 4 5 6

    def _labelled(self, tokens: Int[Tensor, "batch position"]) -> SudokuBatch:
        this, device = this_board(self.size), tokens.device
        given, solution = self._solved(tokens)
        result = rounds(this, given, solution)
        targets, level, taken = (
            torch.from_numpy(x).to(device)
            for x in (as_digits(solution), levels(self.size, *result), result[0])
        )
        return SudokuBatch(tokens, targets, tokens == 0, taken.float(), level)
