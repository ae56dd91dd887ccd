"""Seeds follow from the commit that a recipe is in, and from nothing else."""

import shutil
from pathlib import Path

import pytest

from loopscope import LoopscopeError
from loopscope.replication.digest import file_digest
from loopscope.replication.seeds import FIRST, RANGE, commit_of, draw

from ..toys import tiny_finding

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


def test_seeds_are_a_function_of_the_commit():
    # sha256 of "<commit>:<index>", its first eight bytes modulo a million, from 1000 on
    import hashlib

    commit = "0" * 40
    expected = [
        1000 + int(hashlib.sha256(f"{commit}:{i}".encode()).hexdigest()[:16], 16) % 1_000_000
        for i in range(5)
    ]
    assert draw(commit, 5) == expected
    assert draw(commit, 3) == expected[:3], "more seeds begin with the same ones"
    assert draw("1" * 40, 3) != expected[:3]


def test_seeds_are_distinct_and_none_is_of_the_zoo():
    seeds = draw("a" * 40, 5000)
    assert len(set(seeds)) == 5000
    assert min(seeds) >= FIRST and max(seeds) < FIRST + RANGE


@needs_git
def test_the_commit_is_the_last_that_changed_the_file(tmp_path: Path):
    file = tiny_finding.write(tmp_path / "a b")
    with pytest.raises(LoopscopeError, match="but it has never been committed. Commit it first."):
        commit_of(file)
    first = tiny_finding.commit(file)
    assert commit_of(file) == first
    (tmp_path / "a b" / "other.py").write_text("")
    tiny_finding.commit(file)
    assert commit_of(file) == first
    file.write_text(file.read_text() + "# more\n")
    with pytest.raises(LoopscopeError, match="but it has changed since its commit. Commit it first."):
        commit_of(file)


@needs_git
def test_a_file_outside_a_checkout_has_no_commit(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "a.py").write_text("")
    with pytest.raises(LoopscopeError, match="so it must lie in a git checkout"):
        commit_of(tmp_path / "a.py")


def test_the_digest_is_of_what_a_file_does(tmp_path: Path):
    file = tmp_path / "a.py"

    def digest(text: str) -> str:
        file.write_text(text)
        return file_digest(file)

    first = digest('"""A."""\n\nfinding = 1\n\ndef f(x):\n    """F."""\n    return x + 1\n')
    assert digest("finding = 2\n\ndef f(x):\n    return x + 1\n") == first
    assert digest("def f(x):  # why\n    return (x\n            + 1)\n") == first
    assert digest("def f(x):\n    return x + 2\n") != first
