"""The recipes of the zoo: each architecture's file tells those of its entries."""

from .. import models
from ..common import discovery
from .recipe import Recipe


def recipes() -> dict[str, Recipe]:
    """Every entry that can be trained, with its recipe."""
    result: dict[str, Recipe] = {}
    for architecture in models.names():
        result |= getattr(discovery.module("models", architecture), "RECIPES", {})
    return result


def named(entry: str) -> Recipe:
    """The recipe of an entry."""
    known = recipes()
    return known[discovery.checked_name("recipe", entry, known)]
