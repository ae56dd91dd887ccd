"""What a training leaves behind of its way: a look now and then, and the weights it had."""

import copy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

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
    """The header and the weights that a training has left in its folder so far."""
    made = (
        load_header(folder / checkpoint.FILE, checkpoint.KIND) if (folder / checkpoint.FILE).exists() else {}
    )
    lines = step_log.read(folder / LINES)
    if not lines or not made:
        raise LoopscopeError(
            f"{folder} must hold a training that keeps a history and has come to its first checkpoint, but "
            f"{'there is no ' + LINES if not lines else 'has no checkpoint yet'}. Train a recipe with "
            "history=Schedule()."
        )
    recipe = {name: value for name, value in made["recipe"].items() if name != "precision"}
    header = {"entry": recipe["architecture"], "recipe": recipe, "config": recipe["config"], "lines": lines}
    return header, _weights(folder)


class Chronicle:
    """Looks at a model while it is trained, as its `Schedule` says. Looking changes nothing: it is
    done on a copy."""

    def __init__(
        self, folder: Path, schedule: Schedule, model: "LoopedModule", task: Task, *, done: int
    ) -> None:
        """`done`: steps that were done before; what was seen after them is going to be seen
        again."""
        self.folder, self.schedule = folder, schedule
        self.twin = copy.deepcopy(model).eval()
        device = next(model.parameters()).device
        self.sets = {name: batch.to(device) for name, batch in _sets(task, schedule.examples).items()}
        self.task = task
        step_log.cut(folder / LINES, done if done else -1)
        self.lines: list[dict[str, Any]] = step_log.read(folder / LINES)
        self._tidy()

    def look(self, step: int, weights: Mapping[str, Tensor], last: bool = False) -> None:
        """Look, if it is time to.

        Arguments:
            step: optimiser steps done.
            weights: by name, as they are evaluated.
            last: whether these are the recipe's last weights, which are looked at in any case.
        """
        seen_before = bool(self.lines) and self.lines[-1]["step"] == step
        if seen_before or not (last or step == self.schedule.next(self.lines)):
            return
        self.twin.load_state_dict(dict(weights), strict=False)
        seen = {name: scores(self.twin, self.task, batch) for name, batch in self.sets.items()}
        norm = sum(p.square().sum().item() for p in self.twin.parameters()) ** 0.5
        line = {"step": step, "sets": seen, "norm": norm}
        self.lines.append(line)
        # The weights first: a line whose weights are missing would be believed.
        save_file(self._place(step), dict(self.twin.state_dict()), {"kind": "weights", "step": step})
        step_log.append(self.folder / LINES, line)
        self._tidy()

    def bundle(self, path: Path, header: Mapping[str, Any]) -> Path:
        """All of it in one file, for `loopscope.load_history`."""
        return save_file(path, _weights(self.folder), {"kind": "history", "lines": self.lines, **header})

    def _place(self, step: int) -> Path:
        return self.folder / WEIGHTS / f"{step:08}.safetensors"

    def _tidy(self) -> None:
        """Remove weights that the schedule doesn't keep."""
        kept = {self._place(step) for step in self.schedule.kept(self.lines)}
        if not self.lines:
            shutil.rmtree(self.folder / WEIGHTS, ignore_errors=True)
        for file in (self.folder / WEIGHTS).glob("*.safetensors"):
            if file not in kept:
                file.unlink()


@torch.no_grad()
def scores(model: "LoopedModule", task: Task, batch: Batch) -> dict[str, list[float]]:
    """The loss, and the task's score, had the loop stopped after k = 0..n iterations."""
    result: dict[str, list[float]] = {"loss": [], "accuracy": []}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)  # for models that draw
        context = model.encode(batch.tokens)
        for _, state in unroll(model, model.initial(context), context, model.iterations):
            logits = model.decode(state, context)
            result["loss"].append(masked_mean(task.losses(logits, batch.targets), batch.mask).item())
            result["accuracy"].append(masked_mean(task.correctness(logits, batch.targets), batch.mask).item())
    n = model.iterations + 1  # a model that left the loop stands by its answer
    return {what: values + values[-1:] * (n - len(values)) for what, values in result.items()}


def _weights(folder: Path) -> dict[str, Tensor]:
    """The weights that are kept in a training's folder, by "STEP/NAME"."""
    tensors: dict[str, Tensor] = {}
    for file in sorted((folder / WEIGHTS).glob("*.safetensors")):
        try:
            weights, header = load_file(file, "weights")
        except LoopscopeError:
            if file.exists():
                raise
            continue  # a training that goes on has just thinned it out
        tensors |= {f"{header['step']}/{name}": value for name, value in weights.items()}
    return tensors


def _sets(task: Task, examples: int) -> dict[str, Batch]:
    listed = task.every_example() is not None
    return {
        name: task.full_batch(split) if listed and not chosen else task.batch(examples, SEED, split, **chosen)
        for name, (split, chosen) in task.evaluation_sets.items()
    }
