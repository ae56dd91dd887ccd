"""Export of a trained model as an entry's file: fp32 weights with a header that describes them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..recorder.saved_model import save_model
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
    machine = {
        "device": str(next(model.parameters()).device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    return save_model(
        path,
        model,
        entry,
        str(recipe.architecture),
        recipe=recipe.to_json(),
        step=step,
        measured=measure_entry(model) | dict(seconds) | {"machine": machine},
    )
