"""The recipes of the zoo, from the files of the architectures."""

from .. import models
from ..common import discovery
from .recipe import Recipe


def recipes() -> dict[str, Recipe]:
    """Every entry that can be trained, with its recipe."""
    result: dict[str, Recipe] = {}
    for architecture in models.names():
        result |= getattr(discovery.module("models", architecture), "RECIPES", {})
    return result


def recipe_of(entry: str) -> Recipe:
    """The recipe of an entry.

    Raises:
        LoopscopeError: there is none of that name.
    """
    zoo = recipes()
    return zoo[discovery.checked_name("recipe", entry, zoo)]
