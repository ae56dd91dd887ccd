"""Sudoku: one solution each by brute force, known counts of grids and puzzles, and a line that
symmetries can't cross."""

from itertools import permutations

import numpy as np
import pytest
import torch

from loopscope import tasks
from loopscope.common.errors import LoopscopeError
from loopscope.tasks import sudoku_boards, sudoku_puzzles

SIZES = pytest.mark.parametrize("size", [4, 6])


# A plain solver, which shares nothing with the one under test
# ------------------------------------------------------


def neighbours(size):
    """For each cell the cells that it must differ from."""
    tall, wide = {4: (2, 2), 6: (2, 3)}[size]

    def unit(cell):
        row, column = divmod(cell, size)
        return ("row", row), ("column", column), ("box", row // tall, column // wide)

    return [[b for b in range(size**2) if b != a and set(unit(a)) & set(unit(b))] for a in range(size**2)]


def free(puzzle, cell, near, size):
    return [digit for digit in range(1, size + 1) if all(puzzle[b] != digit for b in near[cell])]


def solutions(puzzle, size, near, most):
    """Up to `most` solutions, by trying every digit."""
    if any(puzzle[a] == puzzle[b] != 0 for a in range(size**2) for b in near[a]):
        return []
    blank = [cell for cell in range(size**2) if puzzle[cell] == 0]
    if not blank:
        return [list(puzzle)]
    cell = min(blank, key=lambda cell: len(free(puzzle, cell, near, size)))
    result = []
    for digit in free(puzzle, cell, near, size):
        if len(result) < most:
            trial = [*puzzle[:cell], digit, *puzzle[cell + 1 :]]
            result += solutions(trial, size, near, most - len(result))
    return result


def plain_rounds(puzzle, solution, size, near, places=True):
    """(rounds, of which places, of which hints), one cell at a time."""
    puzzle, taken, of_places, hints = list(puzzle), 0, 0, 0
    tall, wide = {4: (2, 2), 6: (2, 3)}[size]
    rows = [[size * r + c for c in range(size)] for r in range(size)]
    columns = [[size * r + c for r in range(size)] for c in range(size)]
    boxes = [
        [size * (r + i) + c + j for i in range(tall) for j in range(wide)]
        for r in range(0, size, tall)
        for c in range(0, size, wide)
    ]
    while 0 in puzzle:
        can = {cell: free(puzzle, cell, near, size) for cell in range(size**2) if puzzle[cell] == 0}
        fill = [cell for cell in can if len(can[cell]) == 1]
        if not fill and places:
            for unit in rows + columns + boxes:
                for digit in range(1, size + 1):
                    where = [cell for cell in unit if digit in can.get(cell, [])]
                    fill += where if len(where) == 1 else []
            of_places += bool(fill)
        if not fill:
            fill = [min(can, key=lambda cell: (len(can[cell]), cell))]
            hints += 1
        taken += 1
        for cell in fill:
            puzzle[cell] = solution[cell]
    return taken, of_places, hints


# Puzzles
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task",
    [
        tasks.sudoku(size=4),
        tasks.sudoku(size=4, fewest=11, blanks=12),
        tasks.sudoku(size=6),
        tasks.sudoku(size=6, fewest=26, blanks=26),
        tasks.sudoku(size=6, level="hard"),
    ],
    ids=str,
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_puzzle_has_one_solution_and_it_is_the_target(task, split):
    batch, near = task.batch(40, seed=3, split=split), neighbours(task.size)
    for puzzle, targets in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
        assert solutions(puzzle, task.size, near, 2) == [targets]
    assert torch.equal(batch.mask, batch.tokens == 0)


@SIZES
def test_the_solver_counts_solutions_as_brute_force_does(size):
    """Also where there are none or many: givens are taken away, or changed, at random."""
    near, this, generator = neighbours(size), sudoku_puzzles.this_board(size), np.random.default_rng(0)
    full = sudoku_boards.grids(this)[generator.integers(0, 12, 60)]
    digits = np.where(generator.random(full.shape) < 0.3, full, 0)
    wrong = generator.integers(0, size**2, 30), generator.integers(1, size + 1, 30)
    digits[np.arange(30), wrong[0]] = wrong[1]
    given = sudoku_boards.as_bits(digits)
    count, result = sudoku_boards.completions(this, np.where(given == 0, this.full, given), most=20)
    there = [solutions(puzzle, size, near, 20) for puzzle in digits.tolist()]
    assert count.tolist() == [len(each) for each in there]
    assert {0, 1, 20} & set(count.tolist()) >= {0, 20}
    for ours, puzzle, n in zip(sudoku_boards.as_digits(result).tolist(), digits.tolist(), count, strict=True):
        if n:
            assert all(a in (0, b) for a, b in zip(puzzle, ours, strict=True))
            assert all(ours[a] != ours[b] for a in range(size**2) for b in near[a])


def test_a_board_without_givens_is_seen_to_have_several_solutions():
    with pytest.raises(LoopscopeError, match=r"that of row 0, \.{36}, has several"):
        tasks.sudoku().solve(torch.zeros(1, 36, dtype=torch.int64))


@SIZES
def test_rounds_are_those_that_a_plain_player_takes(size):
    task, near = tasks.sudoku(size=size, fewest=1), neighbours(size)
    batches = [
        task.batch(60, seed=0),
        task.batch(60, seed=0, fewest=task.difficulty_limit - 2, blanks=task.difficulty_limit),
    ]
    if size == 6:
        batches.append(task.batch(30, seed=0, level="hard"))
    for batch in batches:
        for puzzle, solution, taken, level in zip(
            *(x.tolist() for x in (batch.tokens, batch.targets, batch.difficulty, batch.level)), strict=True
        ):
            rounds, places, hints = plain_rounds(puzzle, solution, size, near)
            assert taken == rounds
            if size == 6:
                assert level == (2 if hints else 1 if places else 0)
            else:
                assert level == (0 if rounds <= 2 else 1 if rounds == 3 else 2)


@SIZES
@pytest.mark.parametrize("level", ["easy", "medium", "hard"])
def test_a_wanted_level_is_had_by_all(size, level):
    near = neighbours(size)
    batch = tasks.sudoku(size=size, level=level).batch(60, seed=0)
    assert isinstance(batch, tasks.SudokuBatch)
    assert batch.level.unique().tolist() == [("easy", "medium", "hard").index(level)]
    if size == 6:  # cells alone, without looking for places, are enough exactly if it is easy
        alone = [
            plain_rounds(puzzle, solution, 6, near, places=False)[2] == 0
            for puzzle, solution in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True)
        ]
        assert alone == [level == "easy"] * 60


def test_more_givens_make_hard_puzzles_medium_and_medium_ones_easy():
    sizes = [len(sudoku_puzzles.pool(6, level).blanks) for level in ("easy", "medium", "hard")]
    assert sizes[0] == len(sudoku_puzzles.pool(6).blanks) > sizes[1] > sizes[2] > 200


def test_cells_alone_solve_every_puzzle_of_four():
    known = sudoku_puzzles.pool(4)
    taken, places, hints = sudoku_boards.rounds(
        sudoku_puzzles.this_board(4), sudoku_boards.as_bits(known.puzzles), sudoku_boards.as_bits(known.grids)
    )
    assert not places.any() and not hints.any()
    assert taken.max() == 5


@SIZES
def test_blanks_are_as_many_as_wanted(size):
    task = tasks.sudoku(size=size, fewest=4, blanks=9)
    blanks = task.batch(1200, seed=0, split="train").mask.sum(1)
    assert blanks.unique().tolist() == [4, 5, 6, 7, 8, 9]
    if size == 6:
        assert all(abs(int((blanks == n).sum()) - 200) < 60 for n in range(4, 10))
    assert task.batch(20, seed=0, fewest=11, blanks=11).mask.sum(1).unique().tolist() == [11]


def test_a_puzzle_written_by_hand():
    task = tasks.sudoku(size=4)
    tokens = torch.tensor([[1, 2, 0, 0, 3, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 1]])
    assert task.render(tokens) == ["12..3.....4....1"]
    assert task.render(task.solve(tokens)) == ["1234341221434321"]
    assert task.shape == (4, 4) and not task.causal


# Known counts
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "count"), [(4, 288), (6, 28_200_960)])
def test_there_are_as_many_grids_as_the_books_say(size, count):
    """Felgenhauer and Jarvis's count for 4 x 4, Pettersen's for 2 x 3 boxes."""
    this = sudoku_puzzles.this_board(size)
    every = sudoku_boards.grids(this)
    assert len(np.unique(every, axis=0)) * len(list(permutations(range(size)))) == count
    assert (np.sort(every[:, this.units], axis=2) == np.arange(1, size + 1)).all()


def test_there_are_two_classes_of_grids_of_four_and_36_of_puzzles_that_can_spare_nothing():
    """13 of them have four givens, 22 five and one six; 85,632 puzzles in all, up to nothing."""
    known = sudoku_puzzles._catalogue()
    assert (np.bincount(known.model) * 24).tolist() in ([96, 192], [192, 96])
    result = {}
    total = 0
    for one, grid in enumerate(known.models):
        unique = sudoku_puzzles._unique(grid)
        masks = np.arange(2**16)
        minimal = unique.copy()
        for cell in range(16):
            minimal &= ~((masks >> cell & 1 == 1) & unique[masks & ~(1 << cell)])
        total += minimal.sum() * (known.model == one).sum() * 24
        for kind, mask in zip(known.kinds[one, minimal], masks[minimal], strict=True):
            result[int(kind)] = int(mask).bit_count()
    assert total == 85_632
    assert sorted(result.values()) == [4] * 13 + [5] * 22 + [6]


def test_puzzles_of_the_pool_can_spare_no_given():
    near = neighbours(6)
    for puzzle in sudoku_puzzles.pool(6).puzzles[::800].tolist():
        for cell in range(36):
            if puzzle[cell]:
                assert len(solutions([*puzzle[:cell], 0, *puzzle[cell + 1 :]], 6, near, 2)) == 2


# The line between training and test
# --------------------------------------------------------------------------------


def images(puzzle, size, number):
    generator = np.random.default_rng(1)
    copies = np.tile(np.array(puzzle), (number, 1))
    return sudoku_puzzles.transformed(
        copies, size, generator.random((number, 3)), generator.random((number, size))
    )


@SIZES
def test_images_of_a_puzzle_are_puzzles_and_all_are_reached(size):
    full = sudoku_boards.grids(sudoku_puzzles.this_board(size))[3]
    units = sudoku_puzzles.this_board(size).units
    turned = images(full, size, 500)
    assert (np.sort(turned[:, units], axis=2) == np.arange(1, size + 1)).all()
    one = torch.zeros(size**2, dtype=torch.int64).numpy()
    one[1] = 1
    places = images(one, size, 5000)
    assert len(np.unique(places, axis=0)) == size**3  # any digit in any cell
    if size == 4:
        crooked = np.array([1, 2, 3, 0, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
        assert len(np.unique(images(crooked, 4, 60_000), axis=0)) == 8 * 8 * 2 * 24


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_symmetry_of_four_crosses_the_line(split):
    task = tasks.sudoku(size=4)
    for puzzle in task.batch(12, seed=5, split=split).tokens.tolist():
        sides = task.is_test(torch.from_numpy(images(puzzle, 4, 400)))
        assert sides.all() if split == "test" else not sides.any()


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_puzzle_with_the_same_solution_of_six_crosses_the_line(split):
    task = tasks.sudoku(size=6)
    batch = task.batch(50, seed=5, split=split)
    sides = [task.is_test(batch.targets)]
    renamed = torch.tensor([0, 3, 6, 1, 5, 2, 4])[batch.tokens]
    sides.append(task.is_test(renamed))
    fewer = torch.where(
        torch.rand(batch.tokens.shape, generator=torch.Generator().manual_seed(0)) < 0.5,
        batch.targets,
        batch.tokens,
    )
    sides.append(task.is_test(fewer))
    assert all(side.all() if split == "test" else not side.any() for side in sides)


@SIZES
def test_about_one_puzzle_in_eight_is_for_testing(size):
    task = tasks.sudoku(size=size, fewest=8)
    drawn = task.draw(4000, torch.Generator().manual_seed(0), **task.options)
    assert abs(task.is_test(drawn).double().mean().item() - 1 / 8) < 0.03


# What can't be
# ------------------------------------------------------------------------------------------


def test_what_is_no_puzzle():
    task = tasks.sudoku(size=4)
    with pytest.raises(
        LoopscopeError, match="needs its 16 cells in reading order, 0 where one is blank, but got 15"
    ):
        task.mask(torch.zeros(1, 15, dtype=torch.int64))
    puzzle = task.batch(3, seed=0).targets
    puzzle[1, 0] = puzzle[1, 1]
    with pytest.raises(LoopscopeError, match="exactly one solution, but that of row 1, .* has none"):
        task.solve(puzzle)
    with pytest.raises(LoopscopeError, match="tokens in 0..4"):
        task.solve(torch.full((1, 16), 5))


def test_options_that_are_none():
    for options, sentence in [
        ({"size": 9}, "size must be 4 or 6, but is 9"),
        ({"size": 4, "blanks": 13}, "blanks must be at most 12 with size 4, but is 13"),
        ({"blanks": 5, "fewest": 6}, "fewest must be at most its blanks, 5, but is 6"),
        ({"level": "heard"}, "no level 'heard'. Did you mean 'hard'"),
    ]:
        with pytest.raises(LoopscopeError, match=sentence):
            tasks.sudoku(**options)
    assert tasks.sudoku(size=4).blanks == 10 and tasks.sudoku().blanks == 24


def test_levels_that_so_few_blanks_never_reach():
    with pytest.raises(LoopscopeError, match="at least 32 different examples .* Choose a larger blanks"):
        tasks.sudoku(size=4, level="hard").batch(2, seed=0, blanks=3)
    with pytest.raises(
        LoopscopeError, match="must have examples for test with size=6, blanks=8.*in 100 draws"
    ):
        tasks.sudoku(size=6, level="hard").batch(2, seed=0, blanks=8)
