"""What is one's own works as an object, as a path and as an installed package."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

import loopscope as ls
from loopscope.common.user_files import import_file
from loopscope.nn import LoopedModule
from loopscope.shelves import SHELVES
from loopscope.training import Fixed, Recipe, named_recipe, recipe_of, train

from ..toys.own_package import install


@dataclass(frozen=True)
class Config:
    """Of the loop below."""

    vocabulary: int = 3
    width: int = 4
    iterations: int = 3


class HalvingLoop(LoopedModule):
    """h <- h / 2 + e."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.iterations, config.vocabulary)
        self.config = config
        self.embed = torch.nn.Embedding(config.vocabulary, config.width)
        self.unembed = torch.nn.Linear(config.width, config.vocabulary)
        self.setup()

    def encode(self, tokens: Tensor) -> Tensor:
        return self.embed(tokens)

    def initial(self, context: Tensor) -> Tensor:
        return torch.zeros_like(context)

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        return state / 2 + context

    def decode(self, state: Tensor, context: Tensor) -> Tensor:
        return self.unembed(state)


def offered(mine: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The four templates as a package's; their names."""
    site = mine / "site"
    site.mkdir()
    for name in ("mine", "largest", "moves", "theirs"):
        (site / f"pkg_{name}.py").write_text((mine / f"{name}.py").read_text(), encoding="utf-8")
    offers = {
        "loopscope.models": {"mine": "pkg_mine"},
        "loopscope.tasks": {"largest": "pkg_largest:Largest"},
        "loopscope.analyses": {"moves": "pkg_moves"},
        "loopscope.adapters": {"TheirModel": "pkg_theirs:Theirs"},
    }
    monkeypatch.syspath_prepend(str(install(site, "own_shelf_package", "", offers)))
    return {"model": "mine", "task": "largest", "analysis": "moves"}


def things(way: str, mine: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    paths = {"model": mine / "mine.py", "task": mine / "largest.py", "analysis": mine / "moves.py"}
    if way == "package":
        return dict(offered(mine, monkeypatch))
    if way == "path":
        return {kind: str(path) for kind, path in paths.items()}
    modules = {kind: import_file(path) for kind, path in paths.items()}
    return {
        "model": modules["model"].Model,
        "task": modules["task"].Largest,
        "analysis": modules["analysis"].measure,
    }


@pytest.mark.parametrize("way", ["object", "path", "package"])
def test_a_recipe_of_ones_own_is_trained_loaded_and_measured(way: str, mine: Path, monkeypatch):
    own = things(way, mine, monkeypatch)
    recipe = Recipe(
        architecture=own["model"], task=own["task"], options={"length": 4},
        config={"width": 8, "vocabulary": 10}, steps=2, batch=8, depth=Fixed(3),
    )  # fmt: skip
    assert (recipe.architecture, recipe.task) == ("mine", "largest")
    assert Recipe.from_json(recipe.to_json()) == recipe
    trained = train(recipe, mine / "run", progress=False)
    loaded = ls.models.load(mine / "run" / "mine.safetensors")
    tokens = loaded.task.batch(4, seed=0).tokens
    assert loaded(tokens).equal(trained(tokens)) and loaded.task.options == {"length": 4}
    run = ls.record(loaded, tokens)
    result = ls.analyses.measure(own["analysis"], run)
    assert result.distance.shape == (8,) and result.figure().data
    page = ls.report(run, [own["analysis"]], progress=False)
    conclusions = result.evidence.alternatives or (result.verdict,)
    assert all(verdict.sentence in page.html.replace("&#39;", "'") for verdict in conclusions)
    assert "moves" in ls.analyses.names() and "mine" in ls.models.names() and "largest" in ls.tasks.names()


def test_a_module_of_a_class_that_an_installed_adapter_is_for_is_wrapped_by_it(mine: Path, monkeypatch):
    offered(mine, monkeypatch)

    class TheirModel(torch.nn.Module):
        depth = 2

        def __init__(self) -> None:
            super().__init__()
            self.embed, self.block, self.head = (
                torch.nn.Embedding(5, 4),
                torch.nn.Linear(4, 4),
                torch.nn.Linear(4, 5),
            )

        def forward(self, tokens: Tensor) -> Tensor:
            h = self.embed(tokens)
            for _ in range(self.depth):
                h = h + self.block(h)
            return self.head(h)

    module, tokens = TheirModel(), torch.arange(5)[None]
    for model in (ls.wrap(module), ls.wrap(module, adapter=mine / "theirs.py")):
        assert type(model).__name__ == "Theirs" and model.difference(tokens) == 0
    with pytest.raises(ls.LoopscopeError, match="an adapter or body=, but got both"):
        ls.wrap(module, adapter=mine / "theirs.py", body="block")


def test_a_class_of_a_script_has_a_name_a_config_and_a_place(tmp_path: Path):
    recipe = Recipe(architecture=HalvingLoop, task=ls.tasks.prefix_parity(length=6), steps=1, depth=Fixed(2))
    assert (recipe.architecture, recipe.task, recipe.options) == (
        "halving_loop",
        "prefix-parity",
        {"length": 6},
    )
    model = ls.models.build(HalvingLoop, width=6)
    assert model.config == Config(width=6)
    tokens = torch.tensor([[0, 1, 2]])
    for saved in (model.save(tmp_path), HalvingLoop(model.config).save(tmp_path / "other.safetensors")):
        assert ls.models.load(saved)(tokens).shape == (1, 3, 3)
    assert ls.models.load(tmp_path / "halving_loop.safetensors")(tokens).equal(model(tokens))
    assert Recipe(architecture=model, task="prefix-parity", steps=1, depth=Fixed(2)).config == {
        "vocabulary": 3, "width": 6, "iterations": 3,
    }  # fmt: skip


def test_ours_are_ours_however_they_are_named():
    universal = ls.models.build("universal", vocabulary=3, width=8, heads=2)
    root = Path(sys.modules[type(universal).__module__].__file__)
    assert SHELVES["model"].place(root) == SHELVES["model"].place(type(universal)) == "universal"
    assert SHELVES["task"].place(ls.tasks.Hops) == "hops"
    assert not SHELVES["model"].placed and not SHELVES["task"].placed


def test_a_file_that_changed_is_read_again(mine: Path):
    assert ls.models.build(mine / "mine.py").config.width == 32
    text = (mine / "mine.py").read_text()
    (mine / "mine.py").write_text(text.replace("width: int = 32", "width: int = 48"))
    assert ls.models.build(mine / "mine.py").config.width == 48
    assert not list(mine.rglob("__pycache__"))


def test_files_next_to_a_file_are_found_while_it_is_imported(mine: Path):
    text = (mine / "mine.py").read_text()
    text = "from largest import Largest\n" + text.replace('task="prefix-parity"', "task=Largest(length=5)")
    (mine / "mine.py").write_text(text.replace('options={"length": 8}', "options={}"))
    name, recipe = named_recipe(mine / "mine.py")
    assert (name, recipe.task, recipe.options) == ("mine-parity", "largest", {"length": 5})
    assert str(mine) not in sys.path and ls.tasks.build("largest").options == {"length": 8}
    assert ls.use(mine / "largest.py") == ["largest"], "the same file, by its path"


def test_a_recipe_is_named_after_its_file(mine: Path):
    text = (mine / "mine.py").read_text()
    (mine / "mine.py").write_text(text + 'RECIPES["mine-second"] = RECIPES["mine-parity"]\n')
    assert named_recipe(f"{mine / 'mine.py'}:mine-second")[0] == "mine-second"
    with pytest.raises(ls.LoopscopeError, match="has 2 recipes, so one must be named"):
        recipe_of(mine / "mine.py")
