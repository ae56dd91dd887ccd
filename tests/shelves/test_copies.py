"""Copies of the zoo's files under names of their own, and checkpoints without a card."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import loopscope as ls
from loopscope.cli import app
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError
from loopscope.common.renamed_source import renamed_source
from loopscope.common.user_files import import_file
from loopscope.training import named_recipe, train

ARCHITECTURES = [*discovery.names("models")]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_renamed_copy_builds_the_same_model_and_its_recipes_train_it(architecture: str, tmp_path: Path):
    own = ls.models.copy(architecture, tmp_path, rename="my_copy")
    module, theirs = import_file(own), discovery.module("models", architecture)
    assert list(module.RECIPES) == [
        f"my-copy-{name.removeprefix(f'{architecture}-')}" for name in theirs.RECIPES
    ]
    for (entry, recipe), theirs_recipe in zip(module.RECIPES.items(), theirs.RECIPES.values(), strict=True):
        assert named_recipe(f"{own}:{entry}") == (entry, recipe)
        assert recipe.to_json() == theirs_recipe.to_json() | {"architecture": "my_copy"}
    same = zip(ls.models.build(own).parameters(), ls.models.build(architecture).parameters(), strict=True)
    assert all(one.equal(other) for one, other in same)


@pytest.mark.slow
def test_a_renamed_copy_is_trained_loaded_shown_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    assert run(app, ["copy", "models/recall.py", ".", "--name", "mine"]).output.strip() == "Wrote mine.py"
    assert run(app, ["copy", "analyses/cycles", ".", "--name", "my_cycles"]).exit_code == 0
    text = Path("mine.py").read_text(encoding="utf-8").replace("steps=2000", "steps=2")
    assert "steps=2," in text
    Path("mine.py").write_text(text, encoding="utf-8")
    train("mine.py:mine-none", out="out", progress=False)
    shown = run(app, ["card", "out/mine-none.safetensors"]).output
    assert shown.startswith("# mine-none\n\n- **Architecture:** `mine`, ")
    assert "Trained for 2 steps" in shown and "there is no mine-none.md next to it." in shown
    model = ls.models.load("out/mine-none.safetensors", architecture="mine.py")
    recorded = ls.record(model, model.task.batch(4, seed=0).tokens, 12)
    result, theirs = (ls.analyses.measure(name, recorded) for name in ("./my_cycles", "cycles"))
    assert result.verdict.name == theirs.verdict.name
    assert ls.report(recorded, ["./my_cycles"], progress=False).html.count(result.verdict.sentence)


def test_a_card_of_what_was_saved_by_hand_says_that_nothing_was_measured(tmp_path: Path):
    file = ls.models.build("universal", vocabulary=3, width=8, heads=1).save(tmp_path / "own.safetensors")
    shown = CliRunner().invoke(app, ["card", str(file)]).output
    assert shown.startswith("# universal\n") and "Nothing was measured when it was saved." in shown


def test_only_the_names_of_a_copy_change():
    text = 'x = "ouro"  # é\nRECIPES = {{"é{}": 1, "{}": Recipe(architecture="{}", task="ouro")}}\n'
    before, after = text.format("", "ouro-mano", "ouro"), text.format("", "my-one-mano", "my_one")
    assert renamed_source(before, "ouro", "my_one") == after.replace('"é"', '"my-one-é"')


@pytest.mark.parametrize("name", ["universal", "Mine", "my-model", "../mine"])
def test_a_new_name_that_cannot_be_one_is_refused(name: str, tmp_path: Path):
    with pytest.raises(LoopscopeError, match="The new name must be words of small letters"):
        ls.models.copy("universal", tmp_path, rename=name)
