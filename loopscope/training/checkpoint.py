"""The checkpoint of a training run: all that its next step needs, in one file that is written whole
or not at all.

Weights and their moving average, Adam's moments, the number of steps done, and in the midst of
carried segments the state. Nothing else: every draw is made from (seed, step), the learning rate,
the length of examples and the penalty's weight are functions of the step.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..common.errors import LoopscopeError
from ..common.files import clear_parts, load_file, save_file
from ..recorder.provenance import versions
from .recipe import differences

KIND = "training"
FILE = "checkpoint.safetensors"


def save(
    folder: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    made_by: Mapping[str, Any],
    *,
    step: int,
    average: Mapping[str, torch.Tensor] | None = None,
    carry: Sequence[torch.Tensor] | None = None,
    **told: Any,
) -> None:
    """Replace the folder's checkpoint.

    Arguments:
        made_by: the recipe, as JSON can say it, and what else decides about the weights.
        step: optimiser steps done.
        average: the weights' moving average, by name.
        carry: the tensors of the state that the next segment begins with.
        told: what the header tells besides, such as seconds=...
    """
    tensors = {f"weights.{name}": value for name, value in model.state_dict().items()}
    for name, moments in _moments(model, optimiser).items():
        tensors |= {f"moments.{key}.{name}": torch.as_tensor(value) for key, value in moments.items()}
    tensors |= {f"average.{name}": value for name, value in (average or {}).items()}
    tensors |= {f"carry.{i}": value.contiguous() for i, value in enumerate(carry or ())}
    header = {"kind": KIND, "recipe": dict(made_by), "step": step, "versions": versions(), **told}
    try:
        save_file(folder / FILE, tensors, header)
    except LoopscopeError as error:
        raise LoopscopeError(
            f"The checkpoint of step {step} could not be written: {error.__cause__ or error}. "
            f"The one before it is whole. Free some space in {folder}, and run the same command to go on "
            "from there."
        ) from error


def load(
    folder: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    made_by: Mapping[str, Any],
    *,
    average: dict[str, torch.Tensor] | None = None,
) -> tuple[dict[str, Any], tuple[torch.Tensor, ...] | None]:
    """Put the folder's checkpoint into `model`, `optimiser` and `average`.

    Returns:
        the checkpoint's header, {"step": 0} if there is none; and the carry, if it was saved in the
            midst of segments.

    Raises:
        LoopscopeError: it is damaged, or of another recipe; the sentence names the fields that
            differ.
    """
    clear_parts(folder / FILE)
    if not (folder / FILE).exists():
        return {"step": 0}, None
    tensors, header = load_file(folder / FILE, KIND)
    if result := differences(header["recipe"], made_by):
        raise LoopscopeError(
            f"{folder / FILE} must be of the recipe that is to be trained, but differs from it: "
            f"{'; '.join(result)}. Choose another folder, or begin again here with resume=False (--fresh), "
            "which overwrites it."
        )
    weights = {n.removeprefix("weights."): t for n, t in tensors.items() if n.startswith("weights.")}
    try:
        model.load_state_dict(weights)  # copies into the model's own storage
    except RuntimeError as error:
        raise LoopscopeError(
            f"The weights in {folder / FILE} must fit the model, but don't ({error}). The architecture's "
            "file has changed since: choose another folder, or begin again here with resume=False "
            "(--fresh), overwriting it."
        ) from error
    state: dict[int, dict[str, torch.Tensor]] = {i: {} for i, _ in enumerate(model.parameters())}
    place = {name: i for i, (name, _) in enumerate(model.named_parameters())}
    for key, tensor in tensors.items():
        if key.startswith("moments."):
            _, moment, name = key.split(".", 2)
            # A loaded tensor may lie at any address, and sums over it may then round differently: a
            # clone is aligned.
            state[place[name]][moment] = tensor.clone()
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    if average is not None:
        average |= {name: tensors[f"average.{name}"].clone() for name in average}
    carry = [tensors[f"carry.{i}"].clone() for i in range(sum(name.startswith("carry.") for name in tensors))]
    return header, tuple(carry) or None


def forget(folder: Path) -> None:
    """Remove the folder's checkpoint, if there is one."""
    (folder / FILE).unlink(missing_ok=True)


def _moments(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """Adam's state by the name of its parameter."""
    names = [name for name, _ in model.named_parameters()]
    state = optimiser.state_dict()["state"]
    return {names[i]: moments for i, moments in state.items()}
