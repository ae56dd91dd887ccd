"""A trained model as an entry's file: fp32 weights, and a header that tells what they are."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..common.files import save_file
from ..common.to_json import to_json
from ..recorder.provenance import versions
from .card_metrics import measured
from .recipe import Recipe

if TYPE_CHECKING:  # TransformerLens comes with the first model, not with the recipes
    from ..nn import LoopedModule


def export(
    path: str | Path,
    model: "LoopedModule",
    entry: str,
    recipe: Recipe,
    *,
    step: int,
    took: Mapping[str, float],
) -> Path:
    """Write the file that `loopscope.models.load` reads, with the accuracy measured now.

    Arguments:
        step: optimiser steps done.
        took: "seconds", and "processor_seconds", that they took.
    """
    said = recipe.to_json()
    machine = {
        "device": str(next(model.parameters()).device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    header = {
        "kind": "checkpoint",
        "entry": entry,
        "architecture": recipe.architecture,
        "config": said["config"]
        | to_json(vars(model.config)),  # whole, so that a changed default changes no entry
        "task": {"name": recipe.task, "options": model.task.options},
        "recipe": said,
        "step": step,
        "buffers": [name for name, _ in model.named_buffers()],  # kept with the weights, but not trained
        "measured": measured(model) | dict(took) | {"machine": machine},
        "versions": versions(),
    }
    return save_file(path, {name: value.float() for name, value in model.state_dict().items()}, header)
