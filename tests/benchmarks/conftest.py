"""What the benchmarks share: one thread each, and the page that `make bench` writes."""

from pathlib import Path

import pytest
import torch

from .interleaved import interleaved
from .page import Comparison, Value, page

_ROWS = pytest.StashKey[list[Comparison | Value]]()


def pytest_addoption(parser):
    parser.addoption("--page", help="the file that the benchmarks' page is written to")


def pytest_configure(config):
    config.stash[_ROWS] = []


def pytest_sessionfinish(session):
    file, rows = session.config.getoption("--page"), session.config.stash[_ROWS]
    if file and rows:
        Path(file).write_text(page(rows, failed=session.testsfailed))


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads of a small model wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def say(request, capsys, benchmark):
    """say(what, value, goal) prints one value, and the page has it."""

    def say(what, value, goal):
        benchmark.extra_info[what] = value
        request.config.stash[_ROWS].append(Value(request.module.__doc__, what, value, goal))
        with capsys.disabled():
            print(f"\n    {what}: {value:.3g} ({goal})")  # noqa: T201 (what a benchmark is for)

    return say


@pytest.fixture
def compare(request, capsys, benchmark):
    """compare(what, ways, goal) times several ways in turns; ratios are to the first of them."""

    def compare(what, ways, goal="", rounds=9):
        row = Comparison(request.module.__doc__, what, interleaved(ways, rounds), goal)
        benchmark.extra_info[what] = row.ratios
        request.config.stash[_ROWS].append(row)
        with capsys.disabled():
            print(f"\n    {row.text}")  # noqa: T201 (what a benchmark is for)
        benchmark.pedantic(lambda: None)
        return row

    return compare
