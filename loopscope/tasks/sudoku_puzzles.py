"""The Sudoku puzzles that examples are made of: all 4 x 4 puzzles up to symmetry, and a pool of
6 x 6 puzzles; levels and symmetries."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array

from .sudoku_boards import Board, as_bits, as_digits, board, grids, minimal_puzzles, normal, orders, rounds

BOXES = {4: (2, 2), 6: (2, 3)}
"""Rows and columns of a box."""
LEVELS = ("easy", "medium", "hard")
_POOL = 8192


def this_board(size: int) -> Board:
    """The board of a size that the task has."""
    return board(*BOXES[size])


def levels(
    size: int, taken: Int[Array, " board"], places: Int[Array, " board"], hints: Int[Array, " board"]
) -> Int[Array, " board"]:
    """The index in `LEVELS`, from the rounds that `sudoku_boards.rounds` counts."""
    if size == 4:
        return np.clip(taken - 2, 0, 2)
    return np.where(hints > 0, 2, np.where(places > 0, 1, 0))


def transformed(
    puzzles: Int[Array, "board cell"],
    size: int,
    where: Float[Array, "board 3"],
    names: Float[Array, "board digit"],
) -> Int[Array, "board cell"]:
    """Each board's image under a symmetry: rows and columns exchanged, the board transposed (4 x
    4), digits renamed.

    Arguments:
        where: numbers in 0..1 that choose the rows' order, the columns' order, and whether to
            transpose.
        names: numbers whose order gives the new digits.
    """
    rows, columns = _lines(size)
    row = rows[(where[:, 0] * len(rows)).astype(int)]
    column = columns[(where[:, 1] * len(columns)).astype(int)]
    cells = row[:, :, None] * size + column[:, None, :]
    if size == 4:  # boxes of 2 x 3 would become boxes of 3 x 2
        cells = np.where(where[:, 2, None, None] < 0.5, cells, cells.transpose(0, 2, 1))
    moved = np.take_along_axis(puzzles, cells.reshape(len(puzzles), size * size), axis=1)
    renamed = np.concatenate([np.zeros((len(puzzles), 1), dtype=int), names.argsort(1) + 1], axis=1)
    return np.take_along_axis(renamed, moved, axis=1)


@lru_cache
def _lines(size: int) -> tuple[Int[Array, "order line"], Int[Array, "order line"]]:
    """The permutations of rows and those of columns that keep boxes together."""
    tall, wide = BOXES[size]
    return orders(size // tall, tall), orders(size // wide, wide)


@dataclass(frozen=True, eq=False)
class Pool:
    """Puzzles to draw from, sorted by decreasing number of blanks."""

    puzzles: Int[Array, "entry cell"]
    grids: Int[Array, "entry cell"]
    blanks: Int[Array, " entry"]
    kinds: Int[Array, " entry"]
    """The class up to symmetry of each 4 x 4; 0 for 6 x 6."""


@lru_cache
def pool(size: int, level: str | None = None) -> Pool:
    """All 4 x 4 puzzles (of a level), or 6 x 6 puzzles from which examples (of that level) can be
    made."""
    if level is None:
        puzzles, full, kind = _all_small() if size == 4 else _some_large()
        blanks = (puzzles == 0).sum(1)
        chosen = np.argsort(-blanks, kind="stable")
        whole = Pool(puzzles, full, blanks, kind)
    else:
        whole, wanted = pool(size), LEVELS.index(level)
        result = levels(size, *rounds(this_board(size), as_bits(whole.puzzles), as_bits(whole.grids)))
        # one more clue can make a 6 x 6 easier, never harder
        chosen = np.flatnonzero(result == wanted if size == 4 else result >= wanted)
    return Pool(whole.puzzles[chosen], whole.grids[chosen], whole.blanks[chosen], whole.kinds[chosen])


def _some_large() -> tuple[Array, Array, Array]:
    """Minimal 6 x 6 puzzles of grids that are drawn uniformly, up to the names of digits."""
    generator = torch.Generator().manual_seed(2024)
    every = grids(this_board(6))
    full = every[torch.randint(0, len(every), (_POOL,), generator=generator).numpy()]
    order = torch.rand((36, _POOL), generator=generator).argsort(dim=0, stable=True).numpy()
    return as_digits(minimal_puzzles(this_board(6), as_bits(full), order)), full, np.zeros(_POOL, dtype=int)


def _all_small() -> tuple[Array, Array, Array]:
    """All 4 x 4 puzzles with one solution, up to symmetry: each class of grids is repeated in
    proportion to its number of grids."""
    catalogue, parts = _catalogue(), []
    for one, grid in enumerate(catalogue.models):
        masks = np.flatnonzero(_unique(grid))
        share = int((catalogue.model == one).sum() // np.bincount(catalogue.model).min())
        part = np.where(_CLUES[masks], grid, 0), np.tile(grid, (len(masks), 1)), catalogue.kinds[one, masks]
        parts += [part] * share
    puzzles, full, kind = zip(*parts, strict=True)
    return np.concatenate(puzzles), np.concatenate(full), np.concatenate(kind)


# 4 x 4 up to symmetry
# --------------------------------------------------------------------------------------------

_CLUES = np.arange(2**16)[:, None] >> np.arange(16) & 1 == 1  # the clue cells of each 16-bit mask


@dataclass(frozen=True, eq=False)
class _Catalogue:
    """The 4 x 4 grids whose first row is 1 2 3 4, and how to transform each into the representative
    of its class."""

    codes: Int[Array, " grid"]
    """The grids' codes (`_code`), sorted."""
    model: Int[Array, " grid"]
    """The class of each."""
    transform: Int[Array, "grid cell"]
    """Which cell goes to each place when the grid is transformed into the representative."""
    models: Int[Array, "class cell"]
    kinds: Int[Array, "class mask"]
    """For each set of clue cells, a number that is equal for sets which a symmetry of the
    representative maps to each other."""


def kinds(clue_cells: Bool[Array, "board cell"], full: Int[Array, "board cell"]) -> Int[Array, " board"]:
    """The class of each 4 x 4 puzzle: equal for two puzzles exactly if a symmetry maps one to
    the other.

    Arguments:
        clue_cells: which cells are clues.
        full: the solutions.
    """
    catalogue = _catalogue()
    grid = np.searchsorted(catalogue.codes, _code(normal(full, 4)))
    mask = np.take_along_axis(clue_cells, catalogue.transform[grid], axis=1) @ (1 << np.arange(16))
    return catalogue.kinds[catalogue.model[grid], mask]


@lru_cache
def _catalogue() -> _Catalogue:
    every = grids(this_board(4))
    every = every[_code(every).argsort()]
    codes = _code(every)
    transforms = np.array(
        [
            cells.flatten()
            for row in _lines(4)[0]
            for column in _lines(4)[1]
            for square in [row[:, None] * 4 + column]
            for cells in (square, square.T)
        ]
    )
    model, transform = np.full(len(every), -1), np.zeros((len(every), 16), dtype=int)
    models, classes = [], []
    for i, grid in enumerate(every):
        if model[i] >= 0:
            continue
        images = np.searchsorted(codes, _code(normal(grid[transforms], 4)))
        for image, one in zip(images, transforms, strict=True):
            model[image], transform[image] = len(models), one.argsort()  # the inverse
        stabiliser = transforms[images == i]
        smallest = np.min([_CLUES[:, one] @ (1 << np.arange(16)) for one in stabiliser], axis=0)
        classes.append(smallest + len(models) * 2**16)
        models.append(grid)
    return _Catalogue(codes, model, transform, np.array(models), np.array(classes))


def _code(full: Int[Array, "board cell"]) -> Int[Array, " board"]:
    return full @ 5 ** np.arange(16)


def _unique(grid: Int[Array, " cell"]) -> Bool[Array, " mask"]:
    """For each set of clue cells, whether no other of the 288 grids agrees with this one there."""
    names = np.pad(orders(1, 4) + 1, ((0, 0), (1, 0)))  # all orders of 1..4, behind 0
    others = np.concatenate([each[grids(this_board(4))] for each in names])
    differs = (others != grid) @ (1 << np.arange(16))
    masks, result = np.arange(2**16), np.ones(2**16, dtype=bool)
    for cells in np.unique(differs[differs > 0]):
        result &= masks & cells != 0
    return result
