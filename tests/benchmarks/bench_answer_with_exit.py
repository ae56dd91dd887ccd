"""Time that early exit saves.

The goal is 0.85 of what the iterations say: time saved / row iterations saved, on a batch whose
rows stop at different times, against the same loop that runs every row as long as the slowest.
"""

import statistics
import time

import torch

import loopscope as ls

ROUNDS = 7


def medians(one, other):
    """Median processor times of two calls on one thread, taken in turns: the clock on the wall
    tells what else runs here."""
    torch.set_num_threads(1)
    one(), other()
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        one()
        middle = time.process_time()
        other()
        times.append((middle - start, time.process_time() - middle))
    return [statistics.median(column) for column in zip(*times, strict=True)]


def saved(model, tokens, n, say, name, **options):
    with torch.no_grad():
        told = ls.answer(model, tokens, n, **options)
        slowest = int(told.iterations_used.max())
        early, whole = medians(
            lambda: ls.answer(model, tokens, n, **options), lambda: model(tokens, iterations=slowest)
        )
    share = (1 - early / whole) / told.saved
    say(
        f"{name}, {len(tokens)} rows, {told.iterations_used.float().mean():.1f} iterations used on average "
        f"and {slowest} at most: {told.saved:.1%} of the iterations saved, {1 - early / whole:.1%} of the "
        "time; the ratio",
        share,
        "goal at least 0.85",
    )


def test_strings_that_halt_at_different_times(benchmark, say):
    """A trained entry: adaptive computation time, each row by its own gate."""
    model = ls.models.load("universal-prefix-parity-act")
    tokens = model.task.batch(512, seed=0).tokens
    saved(model, tokens, model.iterations, say, "universal-prefix-parity-act")
    benchmark.pedantic(lambda: ls.answer(model, tokens), rounds=3)


def test_boards_that_are_solved_at_different_times(benchmark, say):
    """A trained entry: its Q-head says after each segment which boards are done."""
    model = ls.models.load("hrm-sudoku")
    tokens = model.task.batch(256, seed=0).tokens
    saved(model, tokens, model.iterations, say, "hrm-sudoku")
    benchmark.pedantic(lambda: ls.answer(model, tokens), rounds=3)


def test_rows_whose_difficulty_is_set_by_hand(benchmark, say):
    """A gate that reads one token: the rows need 2, 4, 8, 16 and 32 iterations, as many of each."""
    torch.manual_seed(0)
    model = ls.models.build(
        "universal", vocabulary=8, width=64, norm="stream", halting="accumulated", step_code="none",
        position="rotary", iterations=32,
    ).eval()  # fmt: skip
    needed, rows = torch.tensor([2.0, 4, 8, 16, 32]), torch.randint(5, 8, (160, 32))
    rows[:, 0] = torch.arange(160) % 5
    encode, in_work = model.encode, []
    model.encode = lambda tokens: (in_work.append(tokens[:, 0]), encode(tokens))[1]
    model.act.probability = lambda s: (1 / needed[in_work[-1]])[:, None].expand(s.shape[:2]) + 1e-6
    saved(model, rows, 32, say, "set by hand")
    benchmark.pedantic(lambda: ls.answer(model, rows, 32), rounds=3)
