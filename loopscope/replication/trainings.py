"""Trainings: the trained models of a finding for one seed, each made when it is first needed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import models
from ..common.discovery import checked_name
from ..common.errors import LoopscopeError
from ..shelves.use import sources
from ..sweeps.worker import folder_id, run_trial, weights_file
from ..training import History, Recipe, load_history
from .digest import training_digest

if TYPE_CHECKING:  # TransformerLens comes with the first model
    from ..nn import LoopedModule

CHECKPOINT_EVERY, LOG_EVERY = 100, 10


@dataclass(frozen=True)
class Trainings:
    """The trainings of a finding for one seed. One with the same recipe and seed that another
    finding has made is taken, and one that was stopped goes on from its checkpoint.

    >>> model = trained("no decay")              # a model in evaluation mode, with its task
    >>> history = trained.history("no decay")    # of a recipe that keeps one
    """

    recipes: Mapping[str, Recipe]
    """By name. The drawn seed is added to a recipe's own."""
    seed: int
    root: Path
    """The folder that holds those of all trainings."""

    def __call__(self, name: str) -> "LoopedModule":
        """The trained model.

        Raises:
            LoopscopeError: there is no training of that name, or it failed.
        """
        return models.load(weights_file(self.folder(name), self.recipe(name)))

    def history(self, name: str) -> History:
        """What the training kept of its course."""
        return load_history(self.folder(name))

    def recipe(self, name: str) -> Recipe:
        """The recipe with its seed."""
        recipe = self.recipes[checked_name("training", name, self.recipes)]
        return replace(recipe, seed=recipe.seed + self.seed)

    def folder(self, name: str) -> Path:
        """The folder of the training, which is finished from now on."""
        recipe = self.recipe(name)
        folder = self.root / f"{recipe.architecture}-{training_digest(recipe)}-{recipe.seed}"
        report = run_trial(
            recipe.to_json(), str(folder), folder_id(self.root), CHECKPOINT_EVERY, LOG_EVERY, sources()
        )
        if report.error:
            raise LoopscopeError(f"The training {name!r} with seed {recipe.seed} failed: {report.error}")
        return folder
