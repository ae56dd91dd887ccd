"""Trained entries that installed packages offer."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import loopscope as ls
from loopscope.cli import app
from loopscope.common.entry_points import ENTRIES
from loopscope.common.errors import LoopscopeError

from ..toys.own_package import install


@pytest.fixture
def offered(mine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with an architecture, its task and an entry of them; the folder of the entry. What
    holds the entry alone fails if it is imported."""
    model = ls.models.build(mine / "mine.py", width=8)
    model.task = ls.tasks.build(mine / "largest.py", length=4)
    site = mine / "site"
    zoo = site / "own_zoo" / "entries"
    zoo.mkdir(parents=True)
    (site / "own_zoo" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    model.save(zoo / "their-entry.safetensors")
    (zoo / "their-entry.md").write_text("# their-entry\n\nTheir words.\n")
    for name in ("mine", "largest"):
        shutil.copyfile(mine / f"{name}.py", site / f"own_{name}.py")
    offers = {
        "loopscope.models": {"mine": "own_mine"},
        "loopscope.tasks": {"largest": "own_largest:Largest"},
        ENTRIES: {"their-entry": "own_zoo.entries", "universal-prefix-parity": "own_zoo.entries"},
    }
    monkeypatch.syspath_prepend(str(install(site, "own_zoo_package", "", offers)))
    return zoo


@pytest.fixture
def free_shelves(offered: Path, shelves_as_before: None) -> Path:
    """What was used to make the package is off the shelves again."""
    from loopscope.shelves import SHELVES

    for shelf in SHELVES.values():
        shelf.placed.clear()
    return offered


def test_an_entry_of_a_package_is_listed_loaded_and_recorded_as_ours(free_shelves: Path):
    assert ls.models.entries()[-1] == "their-entry" and ls.models.packages() == {
        "their-entry": "own_zoo_package"
    }
    assert ls.models.path("universal-prefix-parity").parent.name == "models", "ours can't be taken"
    model = ls.models.load("their-entry")
    assert (model.task.name, model.architecture) == ("largest", "mine")
    run = ls.record(model, model.task.batch(2, seed=0).tokens)
    saved = run.save(free_shelves / "run.safetensors")
    assert ls.load_run(saved).logits[1].equal(run.logits[1])
    assert ls.models.card("their-entry").startswith("# their-entry")


def test_the_lists_name_the_packages_that_things_come_from(free_shelves: Path):
    printed = CliRunner().invoke(app, ["models"]).output
    assert "mine (own_zoo_package)" in printed and "universal (" not in printed
    row = next(line for line in printed.splitlines() if line.strip().startswith("their-entry"))
    assert row.split()[1:3] == ["mine", "largest"] and row.split()[-1] == "own_zoo_package"
    assert CliRunner().invoke(app, ["card", "their-entry"]).output.startswith("# their-entry")
    assert CliRunner().invoke(app, ["models", "--names"]).output.split()[-1] == "their-entry"


def test_an_entry_without_its_files_is_not_listed_and_says_what_is_missing(free_shelves: Path):
    (free_shelves / "their-entry.safetensors").unlink()
    assert "their-entry" not in ls.models.entries()
    with pytest.raises(
        LoopscopeError, match=r"own_zoo_package, which must have its weights, but there is no fi"
    ):
        ls.models.load("their-entry")
