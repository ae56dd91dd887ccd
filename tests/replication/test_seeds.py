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


def test_the_digest_of_a_folder_is_of_all_its_files(tmp_path: Path):
    file = tmp_path / "__init__.py"
    file.write_text("from .part import SCALE\n")
    (tmp_path / "part.py").write_text("SCALE = 1\n")
    first = file_digest(file)
    (tmp_path / "part.py").write_text("SCALE = 2\n")
    assert file_digest(file) != first


def test_the_digest_is_the_same_for_every_version_of_python(tmp_path: Path):
    """As Python 3.11 to 3.13 have it. They differ in the fields of a function."""
    file = tmp_path / "a.py"
    file.write_text("def f(x: int = 1) -> str:\n    return f'{x:.2f}'\n\n\nclass A:\n    y = [f(2)]\n")
    assert file_digest(file) == "da99ca3a3eb5"


@needs_git
def test_a_clone_without_its_history_has_no_seeds(tmp_path: Path):
    file = tiny_finding.write(tmp_path / "a")
    tiny_finding.commit(file)
    (tmp_path / "a" / "other.py").write_text("")
    tiny_finding.commit(file)
    tiny_finding.git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{tmp_path / 'a'}", "b")
    with pytest.raises(LoopscopeError, match="doesn't have its whole history. Run git fetch --unshallow"):
        commit_of(tmp_path / "b" / file.name)
