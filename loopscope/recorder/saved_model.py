"""save_model: a model as the file that `loopscope.models.load` reads."""

import os
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.architecture_shelf import architecture_name
from ..common.arguments import FilePath
from ..common.errors import LoopscopeError
from ..common.files import save_file
from ..common.guard import guarded
from ..common.to_json import to_json
from .provenance import versions

if TYPE_CHECKING:
    from ..nn.looped_module import LoopedModule


@guarded
def save_named(model: Any, path: FilePath, name: str | None = None) -> Path:
    """As `LoopedModule.save`."""
    if not is_dataclass(getattr(model, "config", None)):
        raise LoopscopeError(
            f"A model must have its Config as self.config to be saved, but a {type(model).__name__} has "
            f"{getattr(model, 'config', None)!r}. Set self.config = config in its __init__."
        )
    architecture = model.architecture or architecture_name(model)
    entry = name or model.name or architecture
    place = Path(path)
    file = place if place.suffix == ".safetensors" else place / f"{entry}.safetensors"
    return save_model(file, model, entry, architecture)


def save_model(
    path: str | os.PathLike[str], model: "LoopedModule", entry: str, architecture: str, **training: Any
) -> Path:
    """Write a model's weights in fp32, with a header that names what is needed to build it.

    Arguments:
        path: a file that ends in .safetensors.
        entry: the model's name.
        architecture: by which `loopscope.models.build` builds it.
        training: further parts of the header: recipe, step, measured.

    Returns:
        the path of the file.
    """
    task = model.task
    header = {
        "kind": "checkpoint",
        "entry": entry,
        "architecture": architecture,
        # the whole Config, so that a changed default changes no entry
        "config": to_json(vars(model.config)),
        "task": None if task is None else {"name": task.name, "options": to_json(task.options)},
        "buffers": [name for name, _ in model.named_buffers()],  # saved with the weights, but not trained
        "versions": versions(),
        **training,
    }
    return save_file(path, {name: value.float() for name, value in model.state_dict().items()}, header)
