"""A training session: model, optimiser and average, as the folder's checkpoint left them."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from .. import models, tasks
from ..common.errors import LoopscopeError
from ..common.to_json import to_json
from ..tasks import Task
from . import checkpoint
from .objective import LogEntry, Objective
from .recipe import Recipe

if TYPE_CHECKING:  # TransformerLens comes with the first model, not with the recipes
    from ..nn import LoopedModule


class Clock:
    """Time spent on a training over all its sessions: wall time, and processor time, which doesn't
    depend on what else runs."""

    def __init__(self, header: Mapping[str, Any]) -> None:
        """`header`: of the checkpoint, with the seconds so far."""
        self.wall = time.monotonic() - header.get("seconds", 0.0)
        self.processor = time.process_time() - header.get("processor_seconds", 0.0)

    def seconds(self) -> dict[str, float]:
        """The seconds so far, as headers hold them."""
        return {
            "seconds": round(time.monotonic() - self.wall, 1),
            "processor_seconds": round(time.process_time() - self.processor, 1),
        }


@dataclass(frozen=True)
class Session:
    """Everything that a training needs from step to step."""

    recipe: Recipe
    name: str
    folder: Path
    settings: Mapping[str, Any]
    """The recipe, and everything else that determines the weights, as JSON."""
    accelerator: Any
    objective: Objective
    forward: nn.Module
    """The objective as accelerate runs it."""
    optimiser: torch.optim.Optimizer
    stepper: Any
    """The optimiser as accelerate runs it."""
    average: dict[str, Tensor] | None
    first_step: int
    """Number of steps done before this session."""
    clock: Clock

    @property
    def model(self) -> "LoopedModule":
        """The model in training."""
        return self.objective.model

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.accelerator.is_main_process

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The weights to evaluate: the average, if the recipe keeps one."""
        return self.average or self.model.state_dict()

    def save_checkpoint(self, entry: LogEntry) -> None:
        """Replace the folder's checkpoint."""
        checkpoint.save(
            self.folder,
            self.model,
            self.optimiser,
            self.settings,
            step=entry.step,
            average=self.average,
            carry=self.objective.carry,
            length=entry.length,
            **self.clock.seconds(),
        )


def is_main_process() -> bool:
    """Whether this process is the one that writes, known before the session: the first of those
    that accelerate or torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def start_session(
    recipe: Recipe, name: str, folder: Path, *, precision: Literal["no", "bf16"], resume: bool
) -> Session:
    """Build model, task and optimiser, and load the folder's checkpoint if there is one.

    Raises:
        LoopscopeError: model and task don't fit, or the checkpoint is damaged or of another recipe.
    """
    task = tasks.build(recipe.task, **recipe.options)
    model = models.build(recipe.architecture, seed=recipe.seed, **recipe.config)
    _check_vocabulary(model, task)
    model.name, model.task = name, task
    accelerator = _accelerator(precision)
    optimiser = recipe.optimiser.build(model.parameters())
    if recipe.segments > 1 and accelerator.num_processes > 1:
        raise LoopscopeError(
            "A recipe with deep supervision keeps a state from step to step, which several processes can't "
            f"share yet, but there are {accelerator.num_processes}. Train it in one process."
        )
    objective = Objective(model, task, recipe)
    forward, stepper = accelerator.prepare(objective, optimiser)
    average = None if recipe.average is None else recipe.average.start(model)
    settings = recipe.to_json() | {"config": to_json(vars(model.config)), "precision": precision}
    if not resume:
        checkpoint.delete(folder)
    header, objective.carry = checkpoint.load(folder, model, optimiser, settings, average=average)
    return Session(
        recipe=recipe,
        name=name,
        folder=folder,
        settings=settings,
        accelerator=accelerator,
        objective=objective,
        forward=forward,
        optimiser=optimiser,
        stepper=stepper,
        average=average,
        first_step=header["step"],
        clock=Clock(header),
    )


def _accelerator(precision: Literal["no", "bf16"]) -> Any:
    from accelerate import Accelerator  # takes seconds to import

    try:
        return Accelerator(mixed_precision=precision)
    except ValueError as error:  # accelerate keeps one precision per process
        raise LoopscopeError(
            f"precision={precision!r} can't be had in a process that has trained with another, or isn't one "
            f"that accelerate knows ({error}). Train in a new process."
        ) from error


def _check_vocabulary(model: "LoopedModule", task: Task) -> None:
    if model.vocabulary != task.vocabulary:
        raise LoopscopeError(
            f"The model's vocabulary must be the task's, {task.vocabulary} for {task.name}, but is "
            f"{model.vocabulary}. "
            f'Put "vocabulary": {task.vocabulary} into the recipe\'s config.'
        )
