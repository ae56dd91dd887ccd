"""The zoo: architectures to build and trained entries to load, by name.

>>> import loopscope as ls
>>> ls.models.build("universal", width=64)        # an architecture: models/<name>.py
>>> ls.models.load("universal-prefix-parity")     # an entry: models/<entry>.safetensors and .md
>>> ls.models.build("mine.py", width=64)          # one's own; also its class, or an installed package's name
>>> ls.models.load("runs/mine/mine.safetensors", architecture="mine.py")
"""

import dataclasses
import functools
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from ..common import discovery
from ..common.architecture_shelf import ARCHITECTURES
from ..common.arguments import FilePath, Seed
from ..common.checked_fields import Count, checked_fields, described_by
from ..common.entry_points import ENTRIES, offered_entries, offered_file, offers, package_of
from ..common.errors import LoopscopeError
from ..common.files import load_file, load_header, load_shapes
from ..common.guard import guarded, validated
from ..common.matching_tensors import first_misfit
from ..common.reading import checked_path, read_text
from ..common.shelf import Shelf
from ..common.user_files import stored_name

if TYPE_CHECKING:  # importing the shelf must stay light: TransformerLens comes with the first model
    from ..nn import LoopedModule

__path__ = discovery.folders("models")
_REMEDY = "Take another copy, or train it again."


@dataclass(frozen=True)
class StoredTask:
    """A task, by its name and options."""

    name: str
    options: dict[str, Any]


@dataclass(frozen=True)
class EntryHeader:
    """What is read of the header of an entry's file."""

    entry: str
    architecture: str
    config: dict[str, Any]
    task: StoredTask | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    step: Count = 0
    buffers: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)


def names() -> list[str]:
    """The architectures that can be built: ours, then those of the user and of packages."""
    return ARCHITECTURES.names()


def entries() -> list[str]:
    """The trained entries that can be loaded: ours, then those of installed packages."""
    return [*_our_entries(), *packages()]


def packages() -> dict[str, str]:
    """The trained entries of installed packages, each with its package."""
    ours = _our_entries()
    return {name: package_of(offers(ENTRIES)[name]) for name in offered_entries() if name not in ours}


@guarded
def build(architecture: Any, *, seed: Seed = 0, **config: Any) -> "LoopedModule":
    """An untrained model of an architecture.

    Arguments:
        architecture: a name, or one of your own: the path of its file, its class or its module.
        seed: of the initial weights. The global random state isn't changed.
        config: fields of the architecture's Config; others have their defaults.

    Raises:
        LoopscopeError: no such architecture or field, or a value of another type.
    """
    import torch

    name = ARCHITECTURES.place(architecture)
    values = config_of(name, **config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ARCHITECTURES.get(name).Model(values)
    model.architecture = name
    return model


def config_of(architecture: str, **config: Any) -> Any:
    """An architecture's Config with these values, after a check of their names and types."""
    kind = ARCHITECTURES.get(architecture).Config
    return kind(**_checked_values(architecture, kind, config))


@guarded
def load(entry: FilePath, *, architecture: Any = None, task: Any = None) -> "LoopedModule":
    """A trained model, in evaluation mode, with its `task`: an entry by name, or a checkpoint file
    by path.

    No code runs but that of loopscope, of installed packages, and what you name here or named
    before (`loopscope.use`).

    Arguments:
        architecture, task: those of the checkpoint, if they are your own: the path of the file, or
            the class. None: the ones of the names in the file.

    Raises:
        LoopscopeError: no such entry; a file that doesn't fit this version; an architecture or task
            that is on no shelf.
    """
    from .. import tasks
    from ..tasks.shelf import TASKS

    file = path(entry)
    tensors, header = load_file(file, kind="checkpoint")
    about = _checked_header(file, header)
    what = f"The header of {file}"
    name = _shelf_name(ARCHITECTURES, architecture, about.architecture, what)
    task_name = _shelf_name(TASKS, task, about.task.name, what) if about.task is not None else None
    with described_by(what, _REMEDY):
        model = build(name, **about.config)
        if about.task is not None:
            model.task = tasks.build(task_name, **about.task.options)
    if misfit := first_misfit(tensors, model.state_dict()):
        raise LoopscopeError(
            f"The weights in {file} must fit the configuration of {name} in its header, but don't: {misfit}. "
            f"Either the file or that of {name} has changed since: take both from one version, or train it "
            "again."
        )
    model.load_state_dict(tensors)
    by_path = Path(entry).suffix == ".safetensors"
    model.name = about.entry if by_path else os.fspath(entry)
    place = str(file.resolve()) if by_path else os.fspath(entry)
    code = {"architecture": ARCHITECTURES.reference(name), "task": TASKS.reference(task_name)}
    model.reload = functools.partial(load, place, **{k: v for k, v in code.items() if v is not None})
    return model.eval()


@guarded
def card(entry: str) -> str:
    """The entry's card, in Markdown: how it was made and what was measured."""
    return read_text(path(entry).with_suffix(".md"), "the card of an entry")


@guarded
def header(entry: FilePath) -> dict[str, Any]:
    """The header of the entry's file: architecture, config, task, recipe, step, measured numbers,
    versions."""
    file = path(entry)
    header = load_header(file, kind="checkpoint")
    _checked_header(file, header)
    return header


@guarded
def parameters(entry: FilePath) -> int:
    """The number of trainable parameters in the entry's file, from its header alone."""
    buffers = header(entry).get("buffers", [])
    shapes = load_shapes(path(entry), "checkpoint")
    return sum(math.prod(shape) for name, shape in shapes.items() if name not in buffers)


@guarded
def path(entry: FilePath) -> Path:
    """The entry's file. A path to a `.safetensors` file stands for itself."""
    file = checked_path(entry, "an entry")
    if file.suffix == ".safetensors":
        return file
    name, ours = os.fspath(entry), _our_entries()
    if name not in ours and name in offers(ENTRIES):
        return offered_file(name)
    return ours[discovery.checked_name("entry", name, entries())]


@guarded
def copy(name: str, folder: FilePath = ".", rename: str | None = None) -> Path:
    """Copy an architecture's file into a folder, to change it there.

    >>> ls.models.copy("universal", rename="mine")         # then: loopscope train mine.py:mine-prefix-parity

    Arguments:
        rename: the name of the copy, by which its recipes train it. None: the same, which no model
            can have beside loopscope's.

    Raises:
        LoopscopeError: there is no such file or folder, the copy exists already, or the new name
            can't be one.
    """
    return discovery.copy("models", name, folder, rename)


def _our_entries() -> dict[str, Path]:
    cards = discovery.files("models", ".md")
    weights = discovery.files("models", ".safetensors")
    return {name: file for name, file in weights.items() if name in cards}


def _checked_values(architecture: str, config: type, values: dict[str, Any]) -> dict[str, Any]:
    """The values as the types that Config declares; a list from JSON becomes a tuple."""
    types = get_type_hints(config, include_extras=True)
    fields = [one.name for one in dataclasses.fields(config)]
    about = f"See the Config of {architecture}."
    checked = {}
    for name, value in values.items():
        discovery.checked_name(f"field of {architecture}'s Config", name, fields)
        checked[name] = validated(value, types[name], f"{name} of {architecture}", about)
    return checked


def _checked_header(file: Path, header: dict[str, Any]) -> EntryHeader:
    about = checked_fields(EntryHeader, header, f"{file}", _REMEDY)
    for name in (about.architecture, about.task.name if about.task is not None else ""):
        stored_name(name, f"The header of {file}")
    return about


def _shelf_name(shelf: Shelf, passed: Any, stored: str, what: str) -> str:
    """The name on a shelf of what the caller passed, else of what the file names."""
    if passed is not None:
        return shelf.place(passed)
    shelf.check_stored(stored, what)
    return stored
