"""A grid of trainings: a recipe, and the values of the fields that vary, from a TOML file.

entry = "universal-prefix-parity"          # or "mine.py", or a table [recipe] as in a checkpoint

[fixed]                                    # the same for all trainings
steps = 400

[grid]                                     # every combination is trained
seed = [0, 1, 2]
optimiser.weight_decay = [0.0, 1.0]
"config.iterations, depth.iterations" = [1, 2, 4]     # two fields that vary together
"""

import functools
import hashlib
import itertools
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import models
from ..common.architecture_shelf import ARCHITECTURES
from ..common.errors import LoopscopeError, nearest
from ..common.reading import checked_path, read_text
from ..common.to_json import to_json
from ..common.user_files import is_path
from ..tasks.shelf import TASKS
from ..training import Recipe, recipe_of

MOST_TEXT = 1_000_000
"""Bytes of the largest file of a grid."""
KEYS = ("entry", "recipe", "fixed", "grid", "checkpoint_every", "log_every")


@dataclass(frozen=True)
class Axis:
    """One direction of the grid."""

    fields: tuple[str, ...]
    """The recipe's fields that it sets, all to the same value, such as "optimiser.weight_decay"."""
    values: tuple[Any, ...]

    @property
    def name(self) -> str:
        """All its fields."""
        return ", ".join(self.fields)

    @property
    def short_name(self) -> str:
        """The last word of its first field."""
        return self.fields[0].rpartition(".")[2]

    @property
    def title(self) -> str:
        """Its name in figures: all its fields, or their last word if they share it."""
        captions = {field.rpartition(".")[2] for field in self.fields}
        return self.short_name if len(self.fields) > 1 and len(captions) == 1 else self.name


@dataclass(frozen=True, eq=False)
class Trial:
    """One training of the grid; equal to itself only."""

    recipe: Recipe
    coordinates: tuple[int, ...]
    """By axis: the index of its value."""
    name: str
    """The name of its folder: the values, for readers, and a digest of the recipe, by which the
    folder is found again."""


@dataclass(frozen=True)
class Grid:
    """The trainings of a sweep."""

    name: str
    text: str
    """The TOML file's text."""
    axes: tuple[Axis, ...]
    trials: tuple[Trial, ...]
    """The last axis varies fastest."""
    checkpoint_every: int
    log_every: int

    def values(self, trial: Trial) -> dict[str, Any]:
        """A trial's values, by the names of the axes."""
        return {axis.name: axis.values[i] for axis, i in zip(self.axes, trial.coordinates, strict=True)}

    def describe(self, trial: Trial) -> str:
        """A trial's values as text, such as "seed 0, weight_decay 1.0"."""
        return ", ".join(
            f"{axis.short_name} {format_value(axis.values[i])}"
            for axis, i in zip(self.axes, trial.coordinates, strict=True)
        )


def read_grid(path: str | os.PathLike[str]) -> Grid:
    """Read a grid from a TOML file.

    Raises:
        LoopscopeError: the file isn't TOML; it names a field that the recipe doesn't have, or a
            value of the wrong type; a field is set twice; there is nothing to vary.
    """
    path = checked_path(path, "a grid")
    text = read_text(path, "the TOML file of a grid", MOST_TEXT)
    try:
        return grid_from_table(tomllib.loads(text), path.stem, text, folder=path.parent)
    except LoopscopeError as error:
        raise LoopscopeError(f"In {path}: {error}") from error
    except RecursionError as error:
        raise LoopscopeError(
            f"The grid must be a TOML file, but {path} has too many tables inside each other. Write it anew."
        ) from error
    except ValueError as error:
        raise LoopscopeError(f"The grid must be a TOML file, but {path} isn't one: {error}.") from error


def grid_from_table(
    table: Mapping[str, Any], name: str, text: str = "", folder: str | os.PathLike[str] = "."
) -> Grid:
    """The grid of a table; raises as `read_grid` does.

    Arguments:
        folder: from which the paths of your own files in it count.
    """
    for key in table:
        if key not in KEYS:
            raise LoopscopeError(f"A grid has no key {key!r}. {nearest(key, KEYS)}")
    if ("entry" in table) == ("recipe" in table):
        raise LoopscopeError(
            'A grid must have either entry = "NAME", whose recipe is varied, or a table [recipe], but has '
            f"{'both' if 'entry' in table else 'neither'}."
        )
    base = _base(table, Path(folder))
    fixed = dict(_leaves(_table(table, "fixed")))
    axes = tuple(_axis(key, values) for key, values in _leaves(_table(table, "grid")))
    if not axes:
        raise LoopscopeError(
            "A grid must vary something, but its table [grid] is empty. Give it lists, such as seed = [0, "
            "1, 2]."
        )
    _check_fields_once(list(fixed), axes)

    common = base.to_json()
    for field, value in fixed.items():
        common = with_field(common, field, value)
    trials = tuple(_trials(common, axes))
    every = {key: table.get(key, default) for key, default in (("checkpoint_every", 100), ("log_every", 10))}
    for key, value in every.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise LoopscopeError(f"{key} must be a whole number of steps, 1 or more, but is {value!r}.")
    return Grid(name, text, axes, trials, **every)


def _base(table: Mapping[str, Any], folder: Path) -> Recipe:
    """The recipe that is varied. A path in it is the user's word, as it is on a command line."""
    if "entry" in table:
        entry = str(table["entry"])
        return recipe_of(str(folder / entry) if is_path(entry) else entry)
    fields = dict(_table(table, "recipe"))
    for key, shelf in (("architecture", ARCHITECTURES), ("task", TASKS)):
        if isinstance(fields.get(key), str) and is_path(fields[key]):
            fields[key] = shelf.place(folder / fields[key])
    return _recipe(fields, "[recipe]")


def with_field(recipe: Mapping[str, Any], field: str, value: Any) -> dict[str, Any]:
    """A recipe as JSON with one of its fields set. The field's name has dots, such as
    "optimiser.lr".

    `config` and `options` take any name here: the architecture and the task check theirs.
    """
    first, _, rest = field.partition(".")
    if first not in recipe:
        names = [name for name in recipe if name != "part"]
        raise LoopscopeError(f"The recipe has no field {first!r} to set {field!r}. {nearest(first, names)}")
    if not rest:
        return {**recipe, first: value}
    inner = recipe[first]
    if not isinstance(inner, Mapping):
        raise LoopscopeError(
            f"The recipe's {first} must have parts for {rest!r} to be set, but is {inner!r}. "
            f'Set all of it: {first} = {{ part = "...", {rest} = ... }}.'
        )
    if first in ("config", "options"):
        return {**recipe, first: {**inner, rest: value}}
    try:
        return {**recipe, first: with_field(inner, rest, value)}
    except LoopscopeError as error:
        names = [name for name in inner if name != "part"]
        raise LoopscopeError(
            f"The recipe's {first}, {inner.get('part', 'a table')}, has no field {rest!r}. "
            f"{nearest(rest, names)}"
        ) from error


def format_value(value: Any) -> str:
    """A value as text, such as Fixed(iterations=2)."""
    if isinstance(value, Mapping):
        rest = ", ".join(f"{key}={format_value(inner)}" for key, inner in value.items() if key != "part")
        return f"{value['part']}({rest})" if "part" in value else f"({rest})"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(format_value, value)) + ")"
    return str(value)


def _trials(common: dict[str, Any], axes: tuple[Axis, ...]) -> Iterator[Trial]:
    for places in itertools.product(*(range(len(axis.values)) for axis in axes)):
        fields, words = common, []
        for axis, place in zip(axes, places, strict=True):
            for field in axis.fields:
                fields = with_field(fields, field, axis.values[place])
            words.append(f"{axis.short_name} {format_value(axis.values[place])}")
        recipe = _recipe(fields, ", ".join(words))
        readable = "_".join(re.sub(r"[^A-Za-z0-9.+-]+", "-", word).strip("-.")[:32] for word in words)
        yield Trial(recipe, places, f"{readable[:120]}_{_digest(recipe)}")


def _recipe(fields: Mapping[str, Any], where: str) -> Recipe:
    """The recipe, with its names and types checked, those of the architecture's Config too."""
    try:
        recipe = Recipe.from_json(fields)
        _config(recipe)
    except LoopscopeError as error:
        raise LoopscopeError(f"The training {where} can't be: {error}") from error
    # A field is missing, or a number stands where a table belongs.
    except (TypeError, AttributeError, ValueError) as error:
        raise LoopscopeError(
            f"The training {where} must have a recipe whose fields are all there and of their types, but: "
            f"{error}. Correct it in the grid."
        ) from error
    return recipe


def _digest(recipe: Recipe) -> str:
    """Of everything that determines the weights; if a default of the architecture changes, it is
    another training."""
    content = json.dumps(recipe.to_json() | {"config": _config(recipe)}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def _config(recipe: Recipe) -> dict[str, Any]:
    """The architecture's whole Config, as JSON."""
    return _configs(recipe.architecture, json.dumps(recipe.to_json()["config"]))


@functools.lru_cache(4096)  # seeds share it, and building it takes milliseconds
def _configs(architecture: str, config: str) -> dict[str, Any]:
    return to_json(vars(models.config_of(architecture, **json.loads(config))))


def _table(grid: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = grid.get(key, {})
    if not isinstance(table, Mapping):
        raise LoopscopeError(f"[{key}] must be a table of a grid, but is {table!r}.")
    return table


def _leaves(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and their values: TOML reads a bare `optimiser.lr` as nested tables. A part of a
    recipe, which is a table too, is a value."""
    for key, value in table.items():
        if isinstance(value, Mapping) and "part" not in value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _axis(key: str, values: Any) -> Axis:
    fields = tuple(field.strip() for field in key.split(","))
    if not isinstance(values, list) or not values:
        raise LoopscopeError(
            f"{key} in [grid] must be a list of one value or more, but is {values!r}. What all trainings "
            "share stands in [fixed]."
        )
    for i, value in enumerate(values):
        if any(value == other and type(value) is type(other) for other in values[:i]):
            raise LoopscopeError(f"{key} in [grid] must name each value once, but has {value!r} twice.")
    return Axis(fields, tuple(values))


def _check_fields_once(fixed: list[str], axes: tuple[Axis, ...]) -> None:
    varied = [field for axis in axes for field in axis.fields]
    for i, field in enumerate(varied):
        for other in [*fixed, *varied[:i]]:
            within = f"{field}.".startswith(f"{other}.") if other in varied[:i] else field == other
            if within or f"{other}.".startswith(f"{field}."):
                raise LoopscopeError(
                    f"A field of a grid must be set in one place, but {field} meets {other}. Remove "
                    f'one of them, or let both vary together: "{other}, {field}" = [...].'
                )
