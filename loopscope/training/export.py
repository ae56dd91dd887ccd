"""Export of a trained model as an entry's file: fp32 weights with a header that describes them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..common.files import save_file
from ..common.to_json import to_json
from ..recorder.provenance import versions
from .card_metrics import measure_entry
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
    seconds: Mapping[str, float],
) -> Path:
    """Write the file that `loopscope.models.load` reads, and measure the model for its header.

    Arguments:
        step: optimiser steps done.
        seconds: "seconds" and "processor_seconds" of the training.

    Returns:
        the path of the file.
    """
    settings = recipe.to_json()
    machine = {
        "device": str(next(model.parameters()).device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    header = {
        "kind": "checkpoint",
        "entry": entry,
        "architecture": recipe.architecture,
        # the whole Config, so that a changed default changes no entry
        "config": settings["config"] | to_json(vars(model.config)),
        "task": {"name": recipe.task, "options": model.task.options},
        "recipe": settings,
        "step": step,
        "buffers": [name for name, _ in model.named_buffers()],  # saved with the weights, but not trained
        "measured": measure_entry(model) | dict(seconds) | {"machine": machine},
        "versions": versions(),
    }
    return save_file(path, {name: value.float() for name, value in model.state_dict().items()}, header)
