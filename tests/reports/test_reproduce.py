"""Making an entry again: its file, its card and its other seeds come from one command."""

import pytest

import loopscope as ls
from loopscope.reports import model_card, reproduce
from loopscope.reports.marked_section import markers
from loopscope.training import Fixed, Recipe, trainer

BEGIN, END = markers(model_card.SECTION)
TINY = Recipe(
    architecture="universal",
    task="prefix-parity",
    config={"vocabulary": 3, "width": 8, "heads": 1, "iterations": 2},
    options={"length": 5},
    steps=3,
    depth=Fixed(2),
)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A shelf with one card on it, and a recipe of its name."""
    page = tmp_path / "tiny.md"
    page.write_text(f"# tiny\n{BEGIN}\n{END}\nwords\n", encoding="utf-8")
    files = reproduce.discovery.files
    monkeypatch.setattr(
        reproduce.discovery,
        "files",
        lambda shelf, suffix: files(shelf, suffix) | ({"tiny": page} if suffix == ".md" else {}),
    )
    monkeypatch.setattr(trainer, "named_recipe", lambda name: (name, TINY))
    return tmp_path


def test_an_entry_is_made_with_its_numbers_and_its_other_seeds(shelf):
    reproduce.reproduce("tiny", shelf / "runs")
    measured = ls.models.header(shelf / "tiny.safetensors")["measured"]
    assert list(measured["seeds"]) == ["1", "2"]
    other = ls.models.header(shelf / "runs" / "tiny-2" / "tiny.safetensors")
    assert other["recipe"]["seed"] == 2
    assert other["measured"]["accuracy"] == measured["seeds"]["2"]["accuracy"]
    text = (shelf / "tiny.md").read_text(encoding="utf-8")
    assert f"{measured['seeds']['1']['accuracy']:.2%} (seed 1, " in text
    assert text.endswith(f"{END}\nwords\n")


def test_a_long_training_is_not_repeated(shelf, monkeypatch):
    monkeypatch.setattr(reproduce, "SHORT", 0.0)
    reproduce.reproduce("tiny", shelf / "runs")
    assert "seeds" not in ls.models.header(shelf / "tiny.safetensors")["measured"]
    assert "other seeds" not in (shelf / "tiny.md").read_text(encoding="utf-8")


def test_what_has_no_card_is_refused_before_it_is_trained(shelf):
    with pytest.raises(ls.LoopscopeError, match=r"must have a card, but models/other\.md isn't there"):
        reproduce.reproduce("other", shelf / "runs")
    assert not (shelf / "runs").exists()
