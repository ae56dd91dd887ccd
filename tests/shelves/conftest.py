"""Templates of one's own."""

from pathlib import Path

import pytest

from loopscope.shelves import new


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with a template of each kind: mine.py, largest.py, moves.py, theirs.py."""
    for kind, name in (("model", "mine"), ("task", "largest"), ("analysis", "moves"), ("adapter", "theirs")):
        new(kind, name, tmp_path)
    return tmp_path
