"""Small Sudoku with unique solutions: 4 x 4 with boxes of 2 x 2 cells, 6 x 6 with boxes of 2 rows
and 3 columns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy import ndarray as Array
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from .batch import Batch
from .sudoku_boards import as_bits, as_digits, completions, normal, rounds
from .sudoku_puzzles import BOXES, LEVELS, kinds, levels, pool, this_board, transformed
from .task import Task, checked_size

_LIMIT = {4: 12, 6: 26}  # 4 x 4 needs four clues; few 6 x 6 have a unique solution with more blanks
_USUAL = {4: 10, 6: 24}
_HARDER = 16  # blanks from which a 6 x 6 can be harder than easy: none of 600,000 with fewer was


@dataclass(frozen=True)
class SudokuBatch(Batch):
    """Puzzles with their levels."""

    level: Int[Tensor, " batch"]
    """0 easy, 1 medium, 2 hard."""


@dataclass(frozen=True)
class Sudoku(Task):
    """Puzzles in reading order; all blanks are filled in at once. Each has exactly one solution.

        1 2 . .        tokens   1 2 0 0 3 0 0 0 0 0 4 0 0 0 0 1
        3 . . .        targets  1 2 3 4 3 4 1 2 2 1 4 3 4 3 2 1    (mask: the blanks)
        . . 4 .
        . . . 1

    Difficulty is the number of rounds in which a simple solver fills the board. A round fills all
    cells with a single candidate; if there is none, all digits with a single place in a row, column
    or box; if there is none either, one hint. Levels of 6 x 6: easy puzzles need cells alone,
    medium ones need places, hard ones need hints (a human would search). Every 4 x 4 is solved by
    cells alone, so its level is the number of rounds: easy up to 2, medium 3, hard 4 and 5.

    The number of blanks is drawn uniformly from fewest..blanks. If `level` is set, puzzles of other
    levels are then dropped (few 6 x 6 with less than 22 blanks are harder than easy).

    The split of 4 x 4 is by classes of puzzles up to all symmetries (digits renamed; rows, columns,
    bands and stacks exchanged; transposed), drawn uniformly from all that there are. The split of 6
    x 6 is by the solution up to the names of digits. 6 x 6 puzzles are made from a pool of 8192
    minimal puzzles, computed when the first batch is drawn (about two seconds): one is chosen, a
    random symmetry is applied, and random cells are filled in. Both keep the solution unique.
    """

    size: int = 6
    """Digits, rows and columns: 4 or 6."""
    blanks: int | None = None
    """The largest number of blanks, up to 12 for 4 x 4 (default 10) and 26 for 6 x 6 (default
    24)."""
    fewest: int = 1
    """The smallest number of blanks."""
    level: str | None = None
    """If not None, the level of every puzzle: "easy", "medium" or "hard"."""

    name = "sudoku"
    difficulty_option = "blanks"
    difficulty_unit = "elimination rounds"
    fixed_options = ("size",)
    causal = False
    blank_token = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_size(self.name, "size", self.size)
        if self.size not in BOXES:
            raise LoopscopeError(f"{self.name}'s size must be 4 or 6, but is {self.size!r}.")
        if self.blanks is None:
            object.__setattr__(self, "blanks", _USUAL[self.size])
        checked_size(self.name, "blanks", self.blanks)
        checked_size(self.name, "fewest", self.fewest)
        if self._most > self.difficulty_limit:
            raise LoopscopeError(
                f"{self.name}'s blanks must be at most {self.difficulty_limit} with size {self.size}, but is "
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
        """The blank, then digits."""
        return (".", *map(str, range(1, self.size + 1)))

    @property
    def difficulty_limit(self) -> int:
        return _LIMIT[self.size]

    @property
    def shape(self) -> tuple[int, int]:
        return self.size, self.size

    @property
    def box_shape(self) -> tuple[int, int]:
        return BOXES[self.size]

    def neighbours(self) -> Bool[Tensor, "position position"]:
        """Cells of the same row, column or box."""
        units = torch.from_numpy(this_board(self.size).units)
        member = torch.zeros(len(units), self.size**2).scatter_(1, units, 1.0)
        return ((member.T @ member) > 0).fill_diagonal_(False)

    def violations(self, answers: Int[Tensor, "*axes position"]) -> Bool[Tensor, "*axes position"]:
        """Cells whose digit is repeated in their row, column or box; a blank breaks no rule."""
        same = (answers[..., :, None] == answers[..., None, :]) & (answers != self.blank_token)[..., :, None]
        return (same & self.neighbours().to(answers.device)).any(-1)

    @property
    def _most(self) -> int:
        return self.blanks or _USUAL[self.size]

    def solve(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        tokens = self.check_tokens(tokens)
        return torch.from_numpy(as_digits(self._solved(tokens)[1])).to(tokens.device)

    def mask(self, tokens: Int[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
        return self.check_tokens(tokens) == 0

    def check_tokens(self, tokens: Any) -> Int[Tensor, "batch position"]:
        tokens = super().check_tokens(tokens)
        if tokens.shape[1] != self.size**2:
            raise LoopscopeError(
                f"{self.name} of size {self.size} needs its {self.size**2} cells in reading order, 0 where "
                f"one is blank, but got {tokens.shape[1]} positions."
            )
        return tokens

    def _solved(self, tokens: Int[Tensor, "batch position"]) -> tuple[Array, Array]:
        """Clues and solutions, as bits (cell, board)."""
        this, clues = this_board(self.size), as_bits(tokens.cpu().numpy())
        count, solution = completions(this, np.where(clues == 0, this.full, clues))
        if (count != 1).any():
            first = int(np.flatnonzero(count != 1)[0])
            number = "none" if count[first] == 0 else "several"
            raise LoopscopeError(
                f"{self.name} needs puzzles with exactly one solution, but that of row {first}, "
                f"{self.render(tokens[first : first + 1].cpu())[0]}, has {number}. Use the tokens of this "
                "task's own batches."
            )
        return clues, solution

    def draw(self, size: int, generator: torch.Generator, /, **options: Any) -> Int[Tensor, "batch position"]:
        low, high, level = options["fewest"], options["blanks"], options["level"]
        if level is not None:
            size = max(size, 1024)  # many will be dropped
            low = max(low, min(high, _HARDER)) if self.size == 6 and level != "easy" else low

        def rand(*shape: int) -> Array:
            return torch.rand(shape, generator=generator, dtype=torch.float64).numpy()

        source, this = pool(self.size, level), this_board(self.size)
        blanks = (low + rand(size) * (high + 1 - low)).astype(int)
        # The pool of 4 x 4 is complete: take a puzzle with this number of blanks. For 6 x 6 take
        # one with at least as many, and fill cells in.
        first = np.searchsorted(-source.blanks, -blanks) if self.size == 4 else np.zeros_like(blanks)
        behind = np.searchsorted(-source.blanks, -blanks, side="right")
        entry = (first + rand(size) * (behind - first)).astype(int)[behind > first]
        blanks = blanks[behind > first]
        puzzles, full = source.puzzles[entry], source.grids[entry]
        rank = np.where(puzzles == 0, rand(*puzzles.shape), 2).argsort(1).argsort(1)
        puzzles = np.where(rank < blanks[:, None], 0, full)
        if level is not None:
            result = rounds(this, as_bits(puzzles), as_bits(full))
            puzzles = puzzles[levels(self.size, *result) == LEVELS.index(level)]
        return torch.from_numpy(
            transformed(puzzles, self.size, rand(len(puzzles), 3), rand(len(puzzles), self.size))
        )

    def example_count(self, **options: Any) -> int:
        if self.size == 6:
            return 28_200_960  # grids; there are more puzzles
        source = pool(4, options["level"])
        matches = (source.blanks >= options["fewest"]) & (source.blanks <= options["blanks"])
        return len(np.unique(source.kinds[matches]))

    def canonical_form(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch part"]:
        tokens = self.check_tokens(tokens)
        full = as_digits(self._solved(tokens)[1])
        if self.size == 4:
            return torch.from_numpy(kinds(tokens.cpu().numpy() != 0, full)[:, None])
        rows = normal(full, self.size).reshape(len(full), self.size, self.size)[:, 1:]
        return torch.from_numpy(rows @ 7 ** np.arange(self.size))  # the first row is always 1 2 3 4 5 6

    def make_batch(self, tokens: Int[Tensor, "batch position"]) -> SudokuBatch:
        this, device = this_board(self.size), tokens.device
        clues, solution = self._solved(tokens)
        result = rounds(this, clues, solution)
        targets, level, taken = (
            torch.from_numpy(x).to(device)
            for x in (as_digits(solution), levels(self.size, *result), result[0])
        )
        return SudokuBatch(tokens, targets, tokens == 0, taken.float(), level)
