"""The checkpoint of a training: everything that its next step needs, in one file that is written
completely or not at all.

It holds the weights and their moving average, Adam's moments, the number of steps done, and between
two segments of deep supervision the state. Nothing else is needed: random numbers follow from
(seed, step), and the learning rate, the length of examples and the penalty's weight are functions
of the step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..common.checked_fields import Count, Number, checked_fields
from ..common.errors import LoopscopeError
from ..common.files import load_file, load_header, save_file
from ..common.matching_tensors import first_misfit
from ..recorder.provenance import versions
from .recipe import differences

KIND = "training"
FILE = "checkpoint.safetensors"
_REMEDY = "Take another copy, or start again with resume=False (--fresh), which overwrites it."


@dataclass(frozen=True)
class TrainingHeader:
    """What a checkpoint's header says of the training."""

    recipe: dict[str, Any]
    step: Count
    """Optimiser steps done."""
    seconds: Number = 0.0
    processor_seconds: Number = 0.0


def save(
    folder: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    settings: Mapping[str, Any],
    *,
    step: int,
    average: Mapping[str, torch.Tensor] | None = None,
    carry: Sequence[torch.Tensor] | None = None,
    **extra: Any,
) -> None:
    """Replace the folder's checkpoint.

    Arguments:
        settings: the recipe, and everything else that determines the weights, as JSON.
        step: optimiser steps done.
        average: the weights' moving average, by name.
        carry: the tensors of the state that the next segment begins with.
        extra: further entries of the header, such as seconds=...

    Raises:
        LoopscopeError: the file can't be written; the previous checkpoint is unchanged.
    """
    tensors = {f"weights.{name}": value for name, value in model.state_dict().items()}
    for name, moments in _moments(model, optimiser).items():
        tensors |= {f"moments.{key}.{name}": torch.as_tensor(value) for key, value in moments.items()}
    tensors |= {f"average.{name}": value for name, value in (average or {}).items()}
    tensors |= {f"carry.{i}": value.contiguous() for i, value in enumerate(carry or ())}
    header = {"kind": KIND, "recipe": dict(settings), "step": step, "versions": versions(), **extra}
    try:
        save_file(folder / FILE, tensors, header)
    except LoopscopeError as error:
        raise LoopscopeError(
            f"The checkpoint of step {step} could not be written: {error.__cause__ or error}. "
            f"The one before it is complete. Free some space in {folder}, and run the same command to resume "
            "from it."
        ) from error


def load(
    folder: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    settings: Mapping[str, Any],
    *,
    average: dict[str, torch.Tensor] | None = None,
) -> tuple[dict[str, Any], tuple[torch.Tensor, ...] | None]:
    """Load the folder's checkpoint into `model`, `optimiser` and `average`.

    Returns:
        the checkpoint's header, {"step": 0} if there is none; and the carry, if it was saved
            between two segments.

    Raises:
        LoopscopeError: the checkpoint is damaged, or of another recipe; the error names the fields
            that differ.
    """
    if not (folder / FILE).exists():
        return {"step": 0}, None
    tensors, header = load_file(folder / FILE, KIND)
    about = checked_fields(TrainingHeader, header, f"{folder / FILE}", _REMEDY)
    if phrases := differences(about.recipe, settings):
        raise LoopscopeError(
            f"{folder / FILE} must be of the recipe that is to be trained, but differs from it: "
            f"{'; '.join(phrases)}. Choose another folder, or start again here with resume=False (--fresh), "
            "which overwrites it."
        )
    weights = _group(tensors, "weights.")
    if misfit := first_misfit(weights, model.state_dict()):
        raise LoopscopeError(
            f"The weights in {folder / FILE} must fit the model, but don't: {misfit}. The architecture's "
            "file has changed since: choose another folder, or start again here with resume=False "
            "(--fresh), which overwrites it."
        )
    if why := _misfit(tensors, about.step, settings, model, average):
        raise LoopscopeError(f"{folder / FILE} must hold all that the next step needs, but {why}. {_REMEDY}")
    model.load_state_dict(weights)  # copies into the model's own storage
    state: dict[int, dict[str, torch.Tensor]] = {i: {} for i, _ in enumerate(model.parameters())}
    index = {name: i for i, (name, _) in enumerate(model.named_parameters())}
    for key, tensor in _group(tensors, "moments.").items():
        moment, _, name = key.partition(".")
        # Sums over a tensor at an unaligned address may round differently; a clone is aligned.
        state[index[name]][moment] = tensor.clone()
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    if average is not None:
        average |= {name: tensors[f"average.{name}"].clone() for name in average}
    carry = [tensors[f"carry.{i}"].clone() for i in range(len(_group(tensors, "carry.")))]
    return header, tuple(carry) or None


def done_steps(folder: Path) -> int:
    """The step of the folder's checkpoint; 0 if there is none that can be read."""
    try:
        header = load_header(folder / FILE, KIND)
        return checked_fields(TrainingHeader, header, f"{folder / FILE}", _REMEDY).step
    except LoopscopeError:
        return 0


def delete(folder: Path) -> None:
    """Remove the folder's checkpoint, if there is one."""
    (folder / FILE).unlink(missing_ok=True)


def _moments(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """Adam's state by the name of its parameter."""
    names = [name for name, _ in model.named_parameters()]
    state = optimiser.state_dict()["state"]
    return {names[i]: moments for i, moments in state.items()}


def _group(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}


def _misfit(
    tensors: Mapping[str, torch.Tensor],
    step: int,
    settings: Mapping[str, Any],
    model: nn.Module,
    average: Mapping[str, torch.Tensor] | None,
) -> str:
    """What is wrong with the moments, the average or the carry; empty if nothing is."""
    if step > settings.get("steps", step):
        return f"is of step {step}, after the recipe's last"
    parameters, moments = dict(model.named_parameters()), _group(tensors, "moments.")
    kinds: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in moments.items():
        kind, _, name = key.partition(".")
        kinds.setdefault(kind, {})[name] = tensor
    names = {frozenset(values) for values in kinds.values()}
    if len(names) > 1 or (step and not names) or any(not of <= parameters.keys() for of in names):
        return "moments of the optimiser are missing"
    for kind, values in kinds.items():
        like = {name: torch.zeros(()) if kind == "step" else parameters[name] for name in values}
        if misfit := first_misfit(values, like):
            return f"the optimiser's {kind} of {misfit}"
    if misfit := first_misfit(_group(tensors, "average."), average or {}):
        return f"of the average {misfit}"
    carry = _group(tensors, "carry.")
    return "" if carry.keys() == {str(i) for i in range(len(carry))} else "a part of the carry is missing"
