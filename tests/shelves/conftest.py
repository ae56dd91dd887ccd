"""Templates of one's own, and shelves that are as before after each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from loopscope.shelves import SHELVES, new


@pytest.fixture(autouse=True)
def shelves_as_before() -> Iterator[None]:
    before = {kind: dict(shelf.placed) for kind, shelf in SHELVES.items()}
    yield
    for kind, shelf in SHELVES.items():
        shelf.placed.clear()
        shelf.placed.update(before[kind])


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with a template of each kind: mine.py, largest.py, moves.py, theirs.py."""
    for kind, name in (("model", "mine"), ("task", "largest"), ("analysis", "moves"), ("adapter", "theirs")):
        new(kind, name, tmp_path)
    return tmp_path
