"""What is refused on the shelves: files' paths, names of ours, and what lacks something."""

import json
from pathlib import Path

import pytest
import torch

import loopscope as ls
from loopscope.common.files import load_file, save_file
from loopscope.common.user_files import import_file
from loopscope.reports.report import report_names
from loopscope.shelves import SHELVES, new
from loopscope.training import Fixed, Recipe, Schedule, load_history, named_recipe, recipes, train

from ..toys.own_package import install

MARK = "from pathlib import Path\nPath({mark!r}).write_text('run')\n"


@pytest.fixture
def trap(mine: Path) -> tuple[Path, Path]:
    """A file that leaves a mark when it is run, and the mark."""
    mark = mine / "mark"
    trap = mine / "trap.py"
    trap.write_text(MARK.format(mark=str(mark)) + (mine / "mine.py").read_text())
    return trap, mark


@pytest.fixture
def checkpoint(mine: Path) -> Path:
    model = ls.models.build(mine / "mine.py", width=8)
    model.task = ls.tasks.build(mine / "largest.py", length=4)
    return model.save(mine / "saved.safetensors")


@pytest.fixture
def empty_shelves(checkpoint: Path, shelves_as_before: None) -> None:
    for shelf in SHELVES.values():
        shelf.placed.clear()


def rewritten(file: Path, **changes: object) -> Path:
    tensors, header = load_file(file, kind="checkpoint")
    return save_file(file, tensors, header | changes)


@pytest.mark.usefixtures("empty_shelves")
@pytest.mark.parametrize("part", ["architecture", "task"])
@pytest.mark.parametrize("relative", [True, False])
def test_a_path_in_a_checkpoint_is_never_run(part, relative, trap, checkpoint, mine, monkeypatch):
    monkeypatch.chdir(mine)
    path = "trap.py" if relative else str(trap[0])
    value = path if part == "architecture" else {"name": path, "options": {}}
    for load in (ls.models.load, ls.models.header, ls.models.parameters):
        with pytest.raises(ls.LoopscopeError, match="no code that a file points to"):
            load(rewritten(checkpoint, **{part: value}))
    assert not trap[1].exists()


def test_a_path_in_a_recipe_of_a_file_is_never_run(trap):
    recipe = Recipe(architecture="universal", task="prefix-parity", steps=1, depth=Fixed(2))
    for part in ("architecture", "task"):
        with pytest.raises(ls.LoopscopeError, match="no code that a file points to"):
            Recipe.from_json(json.loads(json.dumps(recipe.to_json())) | {part: str(trap[0])})
        with pytest.raises(ls.LoopscopeError, match=f"must have the name of its {part}"):
            Recipe.from_json(recipe.to_json() | {part: ["x"]})
    assert not trap[1].exists()


def test_a_path_in_a_history_or_a_run_is_never_run(trap, mine):
    recipe = Recipe(architecture=mine / "mine.py", task=mine / "largest.py", options={"length": 4},
                    config={"vocabulary": 10, "width": 8}, steps=2, batch=8, depth=Fixed(2),
                    history=Schedule(examples=8))  # fmt: skip
    model = train(recipe, mine / "run", progress=False)
    file = mine / "run" / "mine.history.safetensors"
    assert load_history(file).model(-1)(torch.zeros(1, 3, dtype=torch.long)).shape == (1, 3, 10)
    tensors, header = load_file(file, kind="history")
    for part in ("architecture", "task"):
        save_file(file, tensors, header | {"recipe": header["recipe"] | {part: str(trap[0])}})
        with pytest.raises(ls.LoopscopeError, match="no code that a file points to"):
            load_history(file)
    run = ls.record(model, model.task.batch(4, seed=0).tokens)
    run.origin["task"]["name"] = str(trap[0])
    run.save(mine / "run.safetensors")
    loaded = ls.load_run(mine / "run.safetensors")
    with pytest.raises(ls.LoopscopeError):
        ls.Probes.fit(loaded, "answer")
    assert not trap[1].exists()


@pytest.mark.usefixtures("empty_shelves")
def test_a_checkpoint_of_ones_own_says_what_it_needs_and_takes_it(checkpoint: Path, mine: Path):
    with pytest.raises(
        ls.LoopscopeError, match=r"architecture 'mine', which is on no shelf.*ls.use\(\"mine.py"
    ):
        ls.models.load(checkpoint)
    with pytest.raises(ls.LoopscopeError, match="task 'largest', which is on no shelf"):
        ls.models.load(checkpoint, architecture=mine / "mine.py")
    both = ls.models.load(checkpoint, architecture=mine / "mine.py", task=mine / "largest.py")
    assert (
        both.task.options == {"length": 4}
        and ls.models.load(checkpoint)(torch.ones(1, 2, dtype=int)).shape[2] == 12
    )


LOOP = "from loopscope.nn import LoopedModule\nclass Model(LoopedModule): ...\n"
NO_LOOP = "import torch\nclass Config: ...\nclass Model(torch.nn.Module): ...\n"
NO_CLASS = "from loopscope.adapters.base import Adapter\nclass A(Adapter): ...\n"
CASES = {
    "no_model.py": ("class Config: ...\n", "none of them"),
    "no_config.py": (LOOP, "no dataclass Config"),
    "no_loop.py": (NO_LOOP, "no class Model that inherits"),
    "no_draw.py": ("def measure(run): ...\n", "has no draw"),
    "broken.py": ("x = 1\n1 / 0\n", "raises ZeroDivisionError in line 2"),
    "typo.py": ("x = = 1\n", "raises SyntaxError in line 1"),
    "no_class.py": (NO_CLASS, "names the class of the models"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_lacks_something_says_what(name: str, tmp_path: Path):
    (tmp_path / name).write_text(CASES[name][0])
    with pytest.raises(ls.LoopscopeError, match=CASES[name][1]):
        ls.use(tmp_path / name)


@pytest.mark.parametrize(("old", "changed", "message"), [
    ('"largest", tuple', '"", tuple', "must have a name"),
    ('name, symbols = "largest", ', "symbols = ", "must have a name"),
    ('"largest", tuple', '"hops", tuple', "is loopscope's own"),
    ("def solve", "def solved", "is none"),
])  # fmt: skip
def test_a_task_without_a_name_of_its_own_is_refused(old, changed, message, mine: Path):
    text = (mine / "largest.py").read_text()
    (mine / "largest.py").write_text(text.replace(old, changed))
    with pytest.raises(ls.LoopscopeError, match=message):
        ls.tasks.build(mine / "largest.py")


def test_a_name_stands_for_one_thing(mine: Path, tmp_path: Path):
    (tmp_path / "universal.py").write_text((mine / "mine.py").read_text())
    with pytest.raises(
        ls.LoopscopeError, match="is loopscope's own. Choose another name, such as my_universal"
    ):
        ls.models.build(tmp_path / "universal.py")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.py").write_text((mine / "mine.py").read_text())
    ls.use(mine / "mine.py")
    with pytest.raises(ls.LoopscopeError, match="that name stands for the one from"):
        ls.use(tmp_path / "other" / "mine.py")


@pytest.mark.parametrize(("old", "changed", "message"), [
    ('architecture="mine"', 'architecture="universal"', "must train its own architecture, mine"),
    ('"mine-parity"', '"universal-prefix-parity"', "has the name of an entry"),
    ("RECIPES = {", "PLANS = {", "has none"),
])  # fmt: skip
def test_a_recipe_trains_the_architecture_that_it_stands_beside(old, changed, message, mine: Path):
    text = (mine / "mine.py").read_text()
    (mine / "mine.py").write_text(text.replace(old, changed))
    with pytest.raises(ls.LoopscopeError, match=message):
        named_recipe(mine / "mine.py")


def test_a_package_that_cannot_be_imported_is_named_and_harms_nothing(tmp_path: Path, monkeypatch):
    offers = {group: {"brittle": "brittle_package"} for group in ("loopscope.models", "loopscope.analyses")}
    monkeypatch.syspath_prepend(str(install(tmp_path, "brittle_package", "1 / 0\n", offers)))
    assert "brittle" in ls.models.names() and "universal-prefix-parity" in recipes()
    for use in (ls.models.build, lambda name: ls.analyses.measure(name, "run.safetensors")):
        with pytest.raises(
            ls.LoopscopeError, match="comes with the package brittle_package, .* ZeroDivisionError"
        ):
            use("brittle")
    with pytest.warns(ls.LoopscopeWarning, match="brittle_package"):
        names = report_names(None)
    assert "brittle" not in names and "convergence" in names


@pytest.mark.parametrize("thing", [3, None, "nowhere.py", "a\0.py", torch.nn.Linear(2, 2), [1]])
def test_what_is_nothing_of_ones_own_is_refused(thing):
    for take in (
        ls.use,
        ls.models.build,
        ls.tasks.build,
        lambda one: ls.analyses.measure(one, "r.safetensors"),
    ):
        with pytest.raises(ls.LoopscopeError):
            take(thing)


@pytest.mark.parametrize("name", ["Mine", "my-model", "models", "universal", "test_x", "", "a b", "../x"])
def test_a_template_has_a_free_name_that_can_be_imported(name: str, tmp_path: Path):
    with pytest.raises(ls.LoopscopeError, match="name must be"):
        new("model", name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_template_replaces_no_file(mine: Path):
    text = (mine / "mine.py").read_text()
    with pytest.raises(ls.LoopscopeError, match="exists and would be lost"):
        new("task", "mine", mine)
    assert (mine / "mine.py").read_text() == text


def test_a_file_that_fails_leaves_nothing_imported(tmp_path: Path):
    import sys

    (tmp_path / "half.py").write_text("x = 1\nraise RuntimeError('no')\n")
    before = set(sys.modules), list(sys.path)
    with pytest.raises(ls.LoopscopeError, match="RuntimeError in line 2: no"):
        import_file(tmp_path / "half.py")
    assert (set(sys.modules), list(sys.path)) == before
