"""Sudoku boards with boxes of any shape: their units, exact search for solutions, and the number of
rounds that a simple solver needs.

A board is stored as bits: `bits[cell, board]` has bit d - 1 set where digit d is still possible.
Cells are the first axis, so that every operation is vectorised over the boards of a batch.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product

import numpy as np
from jaxtyping import Bool, Int, UInt8
from numpy import ndarray as Array

_COUNT = np.array([n.bit_count() for n in range(256)], dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class Board:
    """The geometry of a board with `size` digits."""

    size: int
    units: Int[Array, "unit size"]
    """The cells of each row, column and box."""
    of_cell: Int[Array, "3 cell"]
    """The row, column and box of each cell, as indices into `units`."""

    @property
    def full(self) -> np.uint8:
        """The bits of all digits."""
        return np.uint8(2**self.size - 1)


@lru_cache
def board(rows: int, columns: int) -> Board:
    """The board whose boxes have this number of rows and columns."""
    size = rows * columns
    cells = np.arange(size * size).reshape(size, size)
    boxes = cells.reshape(columns, rows, rows, columns).transpose(0, 2, 1, 3).reshape(size, size)
    units = np.concatenate([cells, cells.T, boxes])
    of_cell = np.array([[u for u in range(3 * size) if c in units[u]] for c in range(size * size)]).T
    return Board(size, units, of_cell)


def as_bits(digits: Int[Array, "board cell"]) -> UInt8[Array, "cell board"]:
    """The bit of each cell's digit; 0 where it is blank."""
    return (np.uint8(1) << digits.T.astype(np.uint8) >> np.uint8(1)).astype(np.uint8)


def as_digits(bits: UInt8[Array, "cell board"]) -> Int[Array, "board cell"]:
    """The highest digit among each cell's bits; 0 where there are none."""
    return np.array([n.bit_length() for n in range(256)])[bits.T]


def grids(this: Board) -> Int[Array, "board cell"]:
    """All full boards whose first row is 1, 2, 3, ...; every other board is one of these with
    renamed digits."""
    rows = np.uint8(1) << np.array(list(permutations(range(this.size))), dtype=np.uint8)
    result = rows[:1]
    for row in range(1, this.size):
        fits = np.ones((len(result), len(rows)), dtype=bool)
        for column, cell in enumerate(range(row * this.size, (row + 1) * this.size)):
            above = np.concatenate([this.units[u] for u in this.of_cell[1:, cell]])
            used = np.bitwise_or.reduce(result[:, above[above < row * this.size]], axis=1)
            fits &= used[:, None] & rows[:, column] == 0
        before, next_ = np.nonzero(fits)
        result = np.concatenate([result[before], rows[next_]], axis=1)
    return as_digits(result.T)


def normal(digits: Int[Array, "board cell"], size: int) -> Int[Array, "board cell"]:
    """Full boards with their digits renamed so that the first row is 1, 2, 3, ..."""
    return np.take_along_axis(digits[:, :size].argsort(1) + 1, digits - 1, axis=1)


def orders(groups: int, each: int) -> Int[Array, "order line"]:
    """The orders of a board's rows (or columns) that keep those of one box together."""
    inner = list(permutations(range(each)))
    return np.array(
        [
            [group * each + line for group, lines in zip(outer, within, strict=True) for line in lines]
            for outer in permutations(range(groups))
            for within in product(inner, repeat=groups)
        ]
    )


def completions(
    this: Board, candidates: UInt8[Array, "cell board"], most: int = 2
) -> tuple[Int[Array, " board"], UInt8[Array, "cell board"]]:
    """The number of solutions of each board, counted up to `most`, and one of them. Exact, by
    depth-first search.

    Arguments:
        candidates: the digits that each cell may take, as bits.
    """
    count, result = np.zeros(candidates.shape[1], dtype=int), np.zeros_like(candidates)
    heap = [(np.arange(candidates.shape[1]), candidates)]
    while heap:
        owner, bits = heap.pop()
        open_ = count[owner] < most
        owner, bits = owner[open_], bits[:, open_]
        bits, alive = _narrowed(this, bits)
        owner, bits = owner[alive], bits[:, alive]
        places = _COUNT[bits]
        solved = (places == 1).all(0)
        result[:, owner[solved]] = bits[:, solved]  # of several solutions the last; any will do
        np.add.at(count, owner[solved], 1)
        owner, bits, places = owner[~solved], bits[:, ~solved], places[:, ~solved]
        if len(owner):
            cell, every = np.where(places == 1, 99, places).argmin(0), np.arange(len(owner))
            first, rest = bits.copy(), bits
            lowest = bits[cell, every] & -bits[cell, every]
            first[cell, every] = lowest
            rest[cell, every] ^= lowest
            heap += [(owner, rest), (owner, first)]
    return np.minimum(count, most), result


def _narrowed(
    this: Board, bits: UInt8[Array, "cell board"]
) -> tuple[UInt8[Array, "cell board"], Bool[Array, " board"]]:
    """The candidates after constraint propagation, and which boards have no contradiction."""
    bits, alive, active = bits.copy(), np.ones(bits.shape[1], dtype=bool), np.arange(bits.shape[1])
    while len(active):
        old = bits[:, active]
        single = _COUNT[old] == 1
        new = np.where(
            single, old, old & ~_of_units(_digits_in_units(np.where(single, old, 0), this)[0], this)
        )
        once, twice = _digits_in_units(new, this)
        dead = (once != this.full).any(0) | (new == 0).any(
            0
        )  # a digit or a cell without a place (also if one is there twice)
        lone = new & _of_units(once & ~twice, this)
        new = np.where(lone != 0, lone, new)
        bits[:, active] = new
        alive[active[dead]] = False
        active = active[~dead & (new != old).any(0)]
    return bits, alive


def rounds(
    this: Board, clues: UInt8[Array, "cell board"], solution: UInt8[Array, "cell board"]
) -> tuple[Int[Array, " board"], Int[Array, " board"], Int[Array, " board"]]:
    """How many rounds of plain logic fill each board; in how many of them that took places, and in
    how many a hint.

    In one round all cells that can take only one digit are filled in at once. Where there is none,
    all digits that can go to only one place of a row, column or box. Where there is none either, a
    hint: the solution of one cell, the first in reading order of those with the fewest candidates.

    Arguments:
        clues: the bit of each clue, 0 in blanks.
        solution: the same, all cells filled in.
    """
    bits, active = clues.copy(), np.arange(clues.shape[1])
    taken, places, hints = np.zeros((3, clues.shape[1]), dtype=int)
    while len(active := active[(bits[:, active] == 0).any(0)]):
        here = bits[:, active]
        free = np.where(here == 0, this.full & ~_of_units(_digits_in_units(here, this)[0], this), 0).astype(
            np.uint8
        )
        fill = _COUNT[free] == 1
        bare = np.flatnonzero(~fill.any(0))
        once, twice = _digits_in_units(free[:, bare], this)
        fill[:, bare] = free[:, bare] & _of_units(once & ~twice, this) != 0
        stuck = np.flatnonzero(~fill.any(0))
        fill[np.where(free[:, stuck] == 0, 99, _COUNT[free[:, stuck]]).argmin(0), stuck] = True
        bits[:, active] = np.where(fill, solution[:, active], here)
        taken[active] += 1
        places[active[bare]] += 1
        hints[active[stuck]] += 1
    return taken, places - hints, hints


def minimal_puzzles(
    this: Board, grids: UInt8[Array, "cell board"], order: Int[Array, "cell board"]
) -> UInt8[Array, "cell board"]:
    """Minimal puzzles: cells are blanked in `order`, except where that would leave more than one
    solution."""
    clues, every = grids.copy(), np.arange(grids.shape[1])
    for cell in order:
        digit = clues[cell, every]
        clues[cell, every] = 0
        others = this.full & ~digit
        for unit in this.of_cell[:, cell]:
            others &= ~np.bitwise_or.reduce(clues[this.units[unit].T, every], axis=0)
        unsure = np.flatnonzero(others)  # in other boards only the removed digit fits
        trial = np.where(clues[:, unsure] == 0, this.full, clues[:, unsure])
        trial[cell[unsure], np.arange(len(unsure))] = others[unsure]
        count, _ = completions(this, trial, most=1)
        needed = unsure[count > 0]
        clues[cell[needed], needed] = digit[needed]
    return clues


def _digits_in_units(
    bits: UInt8[Array, "cell board"], this: Board
) -> tuple[UInt8[Array, "unit board"], UInt8[Array, "unit board"]]:
    """The digits that occur in each unit, and those that occur in it more than once."""
    once = bits[this.units[:, 0]]
    twice = np.zeros_like(once)
    for cells in this.units[:, 1:].T:
        here = bits[cells]
        twice |= once & here
        once |= here
    return once, twice


def _of_units(digits: UInt8[Array, "unit board"], this: Board) -> UInt8[Array, "cell board"]:
    """The digits of each cell's three units together."""
    row, column, box = this.of_cell
    return digits[row] | digits[column] | digits[box]
