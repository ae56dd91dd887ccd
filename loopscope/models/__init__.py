"""The zoo: architectures to build and trained entries to load, by name.

>>> import loopscope as ls
>>> ls.models.build("universal", width=64)        # an architecture: models/<name>.py
>>> ls.models.load("universal-prefix-parity")     # an entry: models/<entry>.safetensors and .md
"""

import dataclasses
import functools
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from ..common import discovery
from ..common.arguments import FilePath, Seed
from ..common.errors import LoopscopeError
from ..common.files import load_file, load_header, load_shapes
from ..common.guard import guarded, validated

if TYPE_CHECKING:  # importing the shelf must stay light: TransformerLens comes with the first model
    from ..nn import LoopedModule

__path__ = discovery.folders("models")


def names() -> list[str]:
    """The architectures that can be built."""
    return discovery.names("models")


def entries() -> list[str]:
    """The trained entries that can be loaded."""
    cards = discovery.files("models", ".md")
    return [name for name in discovery.files("models", ".safetensors") if name in cards]


@guarded
def build(architecture: str, *, seed: Seed = 0, **config: Any) -> "LoopedModule":
    """An untrained model of an architecture.

    Arguments:
        seed: of the initial weights. The global random state isn't changed.
        config: fields of the architecture's Config; others have their defaults.

    Raises:
        LoopscopeError: no such architecture or field, or a value of another type.
    """
    import torch

    module = discovery.module("models", architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return module.Model(config_of(architecture, **config))


def config_of(architecture: str, **config: Any) -> Any:
    """An architecture's Config with these values, after a check of their names and types."""
    kind = discovery.module("models", architecture).Config
    return kind(**_checked_values(architecture, kind, config))


@guarded
def load(entry: FilePath) -> "LoopedModule":
    """A trained model, in evaluation mode, with its `task`: an entry by name, or a checkpoint file
    by path.

    Raises:
        LoopscopeError: no such entry, or a file that doesn't fit this version.
    """
    from .. import tasks

    file = path(entry)
    tensors, header = load_file(file, kind="checkpoint")
    missing = {"entry", "architecture", "config", "task"} - header.keys()
    if missing:
        raise LoopscopeError(
            f"The header of {file} must have {', '.join(sorted(missing))}, but doesn't. "
            "It was written by another version of loopscope: train it again."
        )
    model = build(header["architecture"], **header["config"])
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise LoopscopeError(
            f"The weights in {file} must fit the configuration of {header['architecture']} in its header, "
            f"but don't: {_first_misfit(error)}. Either the file or "
            f"models/{header['architecture']}.py has changed since: take both from one version, or train it "
            "again."
        ) from error
    model.name = header["entry"]
    by_path = Path(entry).suffix == ".safetensors"
    model.reload = functools.partial(load, str(file.resolve()) if by_path else os.fspath(entry))
    model.task = tasks.build(header["task"]["name"], **header["task"]["options"])
    return model.eval()


@guarded
def card(entry: str) -> str:
    """The entry's card, in Markdown: how it was made and what was measured."""
    return path(entry).with_suffix(".md").read_text(encoding="utf-8")


@guarded
def header(entry: FilePath) -> dict[str, Any]:
    """The header of the entry's file: architecture, config, task, recipe, step, measured numbers,
    versions."""
    return load_header(path(entry), kind="checkpoint")


@guarded
def parameters(entry: FilePath) -> int:
    """The number of trainable parameters in the entry's file, from its header alone."""
    buffers = header(entry).get("buffers", [])
    return sum(math.prod(shape) for name, shape in load_shapes(path(entry)).items() if name not in buffers)


@guarded
def path(entry: FilePath) -> Path:
    """The entry's file. A path to a `.safetensors` file stands for itself."""
    if Path(entry).suffix == ".safetensors":
        return Path(entry)
    return discovery.files("models", ".safetensors")[
        discovery.checked_name("entry", os.fspath(entry), entries())
    ]


@guarded
def copy(name: str, folder: FilePath = ".") -> Path:
    """Copy an architecture's file into a folder, to change it there."""
    return discovery.copy("models", name, folder)


def _checked_values(architecture: str, config: type, values: dict[str, Any]) -> dict[str, Any]:
    """The values as the types that Config declares; a list from JSON becomes a tuple."""
    types = get_type_hints(config, include_extras=True)
    fields = [field.name for field in dataclasses.fields(config)]
    about = f"See its Config in models/{architecture}.py."
    checked = {}
    for field, value in values.items():
        discovery.checked_name(f"field of {architecture}'s Config", field, fields)
        checked[field] = validated(value, types[field], f"{field} of {architecture}", about)
    return checked


def _first_misfit(error: RuntimeError) -> str:
    """The first mismatch in torch's list."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines()]
    return lines[1] if len(lines) > 1 else lines[0]
