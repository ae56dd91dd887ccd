"""A model of the user's own, built from its file to be checked."""

import os
from typing import Any

import torch

from ..common.architecture_shelf import ARCHITECTURES
from ..common.discovery import checked_name
from ..common.errors import LoopscopeError, nearest
from ..common.user_files import is_path
from ..tasks import build as build_task


def is_model_file(model: Any) -> bool:
    """Whether `model` is the path of a Python file or of a folder with one, "mine.py:NAME" too."""
    if not is_path(model):
        return False
    path = os.fspath(model)
    return path.endswith(".py") or ".py:" in path or os.path.isfile(os.path.join(path, "__init__.py"))


def model_of_file(source: Any, seed: int) -> Any:
    """The untrained model of a file, in evaluation mode, of the size that its recipe has and with
    the recipe's task; without recipes, of its default size.

    Arguments:
        source: "mine.py", or "mine.py:NAME" if it has several recipes.
        seed: of the weights.

    Raises:
        LoopscopeError: it can't be imported, holds no architecture, or not the recipe.
    """
    path, colon, entry = os.fspath(source).rpartition(".py:")
    path = f"{path}.py" if colon else os.fspath(source)
    name = ARCHITECTURES.place(path)
    item = ARCHITECTURES.get(name)
    recipes = getattr(item, "RECIPES", {})
    entry = entry if colon else ""
    if not entry and len(recipes) > 1:
        raise LoopscopeError(
            f"{path} has {len(recipes)} recipes, which say how large its model is, so one must be named. "
            f"Write {path}:NAME. {nearest('', recipes)}"
        )
    if entry:
        checked_name(f"recipe in {path}", entry, recipes)
    recipe = recipes[entry or next(iter(recipes))] if recipes else None
    try:
        config = item.Config(**(recipe.config if recipe else {}))
    except TypeError as error:
        raise LoopscopeError(
            f"{path} must say how large its model is, by defaults of Config or by a recipe, but Config "
            f"raises TypeError: {error}. Build it and pass it: ls.check(model, tokens)."
        ) from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = item.Model(config).eval()
    model.architecture = name
    if recipe is not None:
        model.task = build_task(recipe.task, **recipe.options)
    return model
