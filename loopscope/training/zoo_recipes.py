"""Recipes by name: of the zoo, of installed packages and of the user's files."""

import contextlib
import os
from types import ModuleType
from typing import Any

from ..common import discovery
from ..common.architecture_shelf import ARCHITECTURES
from ..common.errors import LoopscopeError, nearest
from ..common.user_files import import_file, is_path
from .recipe import Recipe


def recipes() -> dict[str, Recipe]:
    """Every entry that can be trained, with its recipe. What comes with a package that can't be
    imported is left out."""
    result: dict[str, Recipe] = {}
    for architecture in ARCHITECTURES.names():
        with contextlib.suppress(LoopscopeError):
            result = getattr(ARCHITECTURES.get(architecture), "RECIPES", {}) | result
    return result


def recipe_of(entry: Any) -> Recipe:
    """The recipe of an entry; see `named_recipe`."""
    return named_recipe(entry)[1]


def named_recipe(source: Any) -> tuple[str, Recipe]:
    """A recipe, with the name of the entry that it trains.

    Arguments:
        source: the name of an entry; a recipe, whose entry is called as its architecture; a file of
            your own with `RECIPES`, by its path ("mine.py", or "mine.py:NAME" if it has several) or
            as a module.

    Raises:
        LoopscopeError: there is none of that name, or a name in the file is loopscope's own.
    """
    if isinstance(source, Recipe):
        return str(source.architecture), source
    if isinstance(source, ModuleType):
        ARCHITECTURES.place(source)
        return _chosen(source, source.__name__, "")
    if is_path(source):
        path, _, entry = os.fspath(source).rpartition(".py:")
        path = f"{path}.py" if path else os.fspath(source)
        return _chosen(_file(path), path, entry if path != os.fspath(source) else "")
    known = recipes()
    return source, known[discovery.checked_name("recipe", source, known)]


def _file(path: str) -> Any:
    """The module of a file; if it has a model, that is on the shelf from now on."""
    module = import_file(path)
    if not hasattr(module, "Model"):
        return module  # recipes alone, of other architectures
    architecture = ARCHITECTURES.place(path)
    item = ARCHITECTURES.get(architecture)
    for entry, recipe in getattr(item, "RECIPES", {}).items() if item is module else ():
        if recipe.architecture != architecture:
            raise LoopscopeError(
                f"The recipes in {path} must train its own architecture, {architecture}, but that of "
                f'{entry!r} trains {recipe.architecture!r}. Write architecture="{architecture}" there.'
            )
    return item


def _chosen(module: Any, path: str, entry: str) -> tuple[str, Recipe]:
    """One of the recipes in a module."""
    own = getattr(module, "RECIPES", {})
    if not own:
        raise LoopscopeError(
            f"{path} must have recipes to train by, RECIPES = {{NAME: Recipe(...)}}, but has none. Copy that "
            "of loopscope new model NAME."
        )
    if not entry and len(own) > 1:
        raise LoopscopeError(
            f"{path} has {len(own)} recipes, so one must be named. Write {path}:NAME. {nearest('', own)}"
        )
    entry = discovery.checked_name(f"recipe in {path}", entry or next(iter(own)), own)
    for architecture in discovery.names("models"):
        if (
            own is not (zoo := getattr(discovery.module("models", architecture), "RECIPES", {}))
            and entry in zoo
        ):
            raise LoopscopeError(
                f"The recipe {entry!r} in {path} has the name of an entry of loopscope's zoo. Choose another."
            )
    return entry, own[entry]
