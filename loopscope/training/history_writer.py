"""Writes the history of a training: looks, which are measurements of the model, and weights."""

import copy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..common.atomic_write import remove_litter
from ..common.errors import LoopscopeError
from ..common.files import load_file, load_header, save_file
from ..core.looped_model import unroll
from ..tasks import Batch, Task
from . import checkpoint, step_log
from .history_schedule import Schedule
from .supervision import masked_mean

if TYPE_CHECKING:  # TransformerLens comes with the first model, not with the recipes
    from ..nn import LoopedModule

LINES, WEIGHTS = "history.jsonl", "history"
SEED = 2024


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the weights that a training has written to its folder so far.

    Raises:
        LoopscopeError: the training keeps no history, or has no checkpoint yet.
    """
    has_checkpoint = (folder / checkpoint.FILE).exists()
    header = load_header(folder / checkpoint.FILE, checkpoint.KIND) if has_checkpoint else {}
    recipe, lines = header.get("recipe"), step_log.read(folder / LINES)
    if not lines or not isinstance(recipe, dict):
        raise LoopscopeError(
            f"{folder} must hold a training that keeps a history and has a checkpoint, but "
            f"{'there is no ' + LINES if not lines else 'it has no checkpoint yet'}. Train a recipe with "
            "history=Schedule()."
        )
    recipe = {name: value for name, value in recipe.items() if name != "precision"}
    history = {"entry": recipe.get("architecture"), "recipe": recipe, "config": recipe.get("config")}
    return history | {"lines": lines}, _weights(folder)


class HistoryWriter:
    """Measures a model in training by its `Schedule`, on a copy of the model, so that the training
    doesn't change."""

    def __init__(
        self, folder: Path, schedule: Schedule, model: "LoopedModule", task: Task, *, first_step: int
    ) -> None:
        """`first_step`: number of steps done before. Looks after it are removed, since they will be
        taken again."""
        self.folder, self.schedule = folder, schedule
        remove_litter(folder / WEIGHTS)
        self.copy = copy.deepcopy(model).eval()
        device = next(model.parameters()).device
        self.sets = {name: batch.to(device) for name, batch in _sets(task, schedule.examples).items()}
        self.task = task
        step_log.cut(folder / LINES, first_step if first_step else -1)
        self.lines: list[dict[str, Any]] = step_log.read(folder / LINES)
        self._remove_weights()

    def look(self, step: int, weights: Mapping[str, Tensor], last: bool = False) -> None:
        """Take a look, if the schedule has one at this step.

        Arguments:
            step: optimiser steps done.
            weights: by name, as they are evaluated.
            last: whether these are the recipe's final weights, which are always measured.
        """
        is_repeated = bool(self.lines) and self.lines[-1]["step"] == step
        if is_repeated or not (last or step == self.schedule.next_look(self.lines)):
            return
        self.copy.load_state_dict(dict(weights), strict=False)
        sets = {name: scores(self.copy, self.task, batch) for name, batch in self.sets.items()}
        norm = sum(p.square().sum().item() for p in self.copy.parameters()) ** 0.5
        line = {"step": step, "sets": sets, "norm": norm}
        self.lines.append(line)
        # The weights first, so that no line is without its weights.
        save_file(self._file(step), dict(self.copy.state_dict()), {"kind": "weights", "step": step})
        step_log.append(self.folder / LINES, line)
        self._remove_weights()

    def bundle(self, path: Path, header: Mapping[str, Any]) -> Path:
        """Write the whole history to one file, for `loopscope.load_history`."""
        return save_file(path, _weights(self.folder), {"kind": "history", "lines": self.lines, **header})

    def _file(self, step: int) -> Path:
        return self.folder / WEIGHTS / f"{step:08}.safetensors"

    def _remove_weights(self) -> None:
        """Remove the weights that the schedule doesn't keep."""
        kept = {self._file(step) for step in self.schedule.checkpoint_steps(self.lines)}
        if not self.lines:
            shutil.rmtree(self.folder / WEIGHTS, ignore_errors=True)
        for file in (self.folder / WEIGHTS).glob("*.safetensors"):
            if file not in kept:
                file.unlink()


@torch.no_grad()
def scores(model: "LoopedModule", task: Task, batch: Batch) -> dict[str, list[float]]:
    """The loss and the task's score after k = 0..n iterations."""
    result: dict[str, list[float]] = {"loss": [], "accuracy": []}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)  # for models that draw random numbers
        context = model.encode(batch.tokens)
        for _, state in unroll(model, model.initial(context), context, model.iterations):
            logits = model.decode(state, context)
            result["loss"].append(masked_mean(task.losses(logits, batch.targets), batch.mask).item())
            result["accuracy"].append(masked_mean(task.correctness(logits, batch.targets), batch.mask).item())
    n = model.iterations + 1  # a model that halted keeps its answer
    return {what: values + values[-1:] * (n - len(values)) for what, values in result.items()}


def _weights(folder: Path) -> dict[str, Tensor]:
    """The weights in a training's folder, by "STEP/NAME"."""
    tensors: dict[str, Tensor] = {}
    for file in sorted((folder / WEIGHTS).glob("*.safetensors")):
        try:
            weights, header = load_file(file, "weights")
        except LoopscopeError:
            if file.exists():
                raise
            continue  # the running training has just removed it
        tensors |= {f"{header.get('step')}/{name}": value for name, value in weights.items()}
    return tensors


def _sets(task: Task, examples: int) -> dict[str, Batch]:
    is_listed = task.every_example() is not None
    return {
        name: task.full_batch(split)
        if is_listed and not options
        else task.batch(examples, SEED, split, **options)
        for name, (split, options) in task.evaluation_sets.items()
    }
