"""Training: a command that can be killed at any moment and given again, and ends in the same
weights, bit for bit."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from .. import models, tasks
from ..common.errors import LoopscopeError
from ..common.rng import mixed
from ..common.to_json import to_json
from ..core.state_tree import detach, from_tensors, tensors
from ..tasks import Task
from . import checkpoint, step_log
from .ema import Average
from .export import export
from .history_writer import Chronicle
from .recipe import Recipe
from .supervision import Exercise, masked_mean
from .validation import counted
from .zoo_recipes import named

if TYPE_CHECKING:  # TransformerLens comes with the first model, not with the recipes
    from ..nn import LoopedModule

_BATCH, _DEPTH, _REST = 0, 1, 2  # streams of random numbers in a step


class Step(NamedTuple):
    """What the log tells of one optimiser step."""

    step: int
    """How many were done, this one included."""
    loss: float
    """Nats per answered position, or as the task counts it; with what the supervision adds, without
    the penalty."""
    accuracy: float
    """The task's score, such as the fraction of right answers, on the step's own examples."""
    length: int
    """The dial of the task: bits, digits."""
    iterations: int
    penalty: float
    """The architecture's own, before its weight."""
    lr: float
    gradient_norm: float
    """Before clipping."""


def train(
    recipe: Recipe | str,
    out: str | Path | None = None,
    *,
    steps: int | None = None,
    seed: int | None = None,
    resume: bool = True,
    progress: bool = True,
    checkpoint_every: int = 100,
    log_every: int = 10,
    precision: Literal["no", "bf16"] = "no",
) -> "LoopedModule":
    """Train by a recipe, or go on where the last run in `out` was stopped.

    In `out`: `log.jsonl` (see `Step`), `checkpoint.safetensors`, and at the end NAME.safetensors,
    which `loopscope.models.load` reads. A recipe with a history also leaves
    NAME.history.safetensors, for `loopscope.load_history`, which reads the folder as well while the
    training goes on.

    Arguments:
        recipe: a recipe, or the name of an entry that has one.
        out: a folder; runs/NAME unless given.
        seed: in place of the recipe's own.
        steps: stop after so many steps of the recipe, to go on later; all of them unless given.
        resume: False begins again and overwrites what is in `out`.
        checkpoint_every, log_every: in steps.
        precision: "no" for float32, "bf16" for mixed precision, as accelerate calls them.

    Returns:
        the model, in evaluation mode, with its `task` and `name`.

    Raises:
        LoopscopeError: the checkpoint is of another recipe; the disk is full; the loss is no longer
            a number.
    """
    recipe, name = (recipe, recipe.architecture) if isinstance(recipe, Recipe) else (named(recipe), recipe)
    last = recipe.steps if steps is None else steps
    counted("steps", last, least=1)
    counted("checkpoint_every", checkpoint_every, least=1)
    counted("log_every", log_every, least=1)
    if last > recipe.steps:
        raise LoopscopeError(f"steps must be at most the recipe's, {recipe.steps}, but are {last}.")
    folder = _folder(Path("runs") / name if out is None else Path(out))
    if seed is not None:
        recipe = replace(recipe, seed=seed)
    training = _prepared(recipe, name, folder, precision=precision, resume=resume)
    bar = _bar(progress and training.main, name, training.done, last)
    chronicle = _run(training, last, bar, checkpoint_every=checkpoint_every, log_every=log_every)
    return _finished(training, chronicle, last)


@dataclass(frozen=True)
class _Training:
    """All that a training goes on with from step to step."""

    recipe: Recipe
    name: str
    folder: Path
    made_by: Mapping[str, Any]
    """The recipe, and what else decides about the weights, as JSON can say it."""
    accelerator: Any
    objective: "Objective"
    forward: nn.Module
    """The objective as accelerate runs it."""
    optimiser: torch.optim.Optimizer
    stepper: Any
    """The optimiser as accelerate runs it."""
    average: dict[str, Tensor] | None
    done: int
    """Steps before this part of the training."""
    clock: "_Clock"

    @property
    def model(self) -> "LoopedModule":
        return self.objective.model

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.accelerator.is_main_process

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Those to be looked at: the average, where the recipe keeps one."""
        return self.average or self.model.state_dict()


def _prepared(
    recipe: Recipe, name: str, folder: Path, *, precision: Literal["no", "bf16"], resume: bool
) -> _Training:
    """Model, task and optimiser, as the folder's checkpoint left them."""
    task = tasks.build(recipe.task, **recipe.options)
    model = models.build(recipe.architecture, seed=recipe.seed, **recipe.config)
    _check_vocabulary(model, task)
    model.name, model.task = name, task
    accelerator = _accelerator(precision)
    optimiser = recipe.optimiser.build(model.parameters())
    if recipe.segments > 1 and accelerator.num_processes > 1:
        raise LoopscopeError(
            "A recipe of carried segments keeps a state from step to step, which several processes can't "
            f"share yet, but there are {accelerator.num_processes}. Train it in one process."
        )
    objective = Objective(model, task, recipe)
    forward, stepper = accelerator.prepare(objective, optimiser)
    average = None if recipe.average is None else recipe.average.start(model)
    made_by = recipe.to_json() | {"config": to_json(vars(model.config)), "precision": precision}
    if not resume:
        checkpoint.forget(folder)
    header, objective.carry = checkpoint.load(folder, model, optimiser, made_by, average=average)
    return _Training(
        recipe=recipe,
        name=name,
        folder=folder,
        made_by=made_by,
        accelerator=accelerator,
        objective=objective,
        forward=forward,
        optimiser=optimiser,
        stepper=stepper,
        average=average,
        done=header["step"],
        clock=_Clock(header),
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


def _run(
    training: _Training,
    last: int,
    bar: AbstractContextManager[Any],
    *,
    checkpoint_every: int,
    log_every: int,
) -> Chronicle | None:
    """The steps up to the last; what was looked at on the way, where the recipe keeps a history."""
    recipe, folder, model, done = training.recipe, training.folder, training.model, training.done
    if training.main:
        step_log.cut(folder / step_log.LOG, done)
    chronicle = None
    if recipe.history is not None and training.main:
        chronicle = Chronicle(folder, recipe.history, model, training.objective.task, done=done)
        chronicle.look(done, training.weights, last=done == recipe.steps)
    model.train()
    with torch.random.fork_rng(devices=[]), bar as advance:
        for step in range(done, last):
            entry = _step(training, step)
            if training.average is not None and recipe.average is not None:
                recipe.average.update(training.average, model, step)
            advance(entry)
            if chronicle is not None:
                chronicle.look(step + 1, training.weights, last=step + 1 == recipe.steps)
            if training.main and (step + 1) % log_every == 0:
                step_log.append(folder / step_log.LOG, entry._asdict())
            if training.main and ((step + 1) % checkpoint_every == 0 or step + 1 == last):
                _save(training, entry)
    return chronicle


def _save(training: _Training, entry: Step) -> None:
    checkpoint.save(
        training.folder,
        training.model,
        training.optimiser,
        training.made_by,
        step=entry.step,
        average=training.average,
        carry=training.objective.carry,
        length=entry.length,
        **training.clock.told(),
    )


def _finished(training: _Training, chronicle: Chronicle | None, last: int) -> "LoopedModule":
    """The model with the weights to be used, after its files were written."""
    recipe, name, folder, model = training.recipe, training.name, training.folder, training.model
    if training.average is not None:
        Average.put(training.average, model)
    if chronicle is not None:
        settings = recipe.to_json()
        config = settings["config"] | to_json(vars(model.config))
        chronicle.bundle(
            folder / f"{name}.history.safetensors", {"entry": name, "recipe": settings, "config": config}
        )
    if training.main:
        steps = max(training.done, last)
        export(folder / f"{name}.safetensors", model, name, recipe, step=steps, took=training.clock.told())
    return model.to("cpu").eval()


class _Clock:
    """Time spent on a training, over all its parts: on the wall and, which doesn't depend on what
    else runs, by the processor."""

    def __init__(self, header: Mapping[str, Any]) -> None:
        self.wall = time.monotonic() - header.get("seconds", 0.0)
        self.processor = time.process_time() - header.get("processor_seconds", 0.0)

    def told(self) -> dict[str, float]:
        return {
            "seconds": round(time.monotonic() - self.wall, 1),
            "processor_seconds": round(time.process_time() - self.processor, 1),
        }


class Objective(nn.Module):
    """The loss of one step as a module's forward pass, which is where accelerate puts precision and
    several devices."""

    def __init__(self, model: "LoopedModule", task: Task, recipe: Recipe) -> None:
        super().__init__()
        self.model, self.task, self.recipe = model, task, recipe
        self.carry: tuple[Tensor, ...] | None = None
        """The tensors of the state that the last segment ended with, detached; None before the
        first of new examples."""

    def forward(self, step: int, share: slice) -> tuple[Tensor, Step]:
        """The loss with its penalty, and the log's line, whose rate and norm are still to come.

        Arguments:
            share: which of the step's examples this process takes.
        """
        recipe, task = self.recipe, self.task
        segment = step % recipe.segments
        first = step - segment
        own = task.options[task.difficulty_option]
        length = own if recipe.curriculum is None else recipe.curriculum.length(first, own)
        if recipe.batch is None:
            batch = task.full_batch("train")
        else:
            drawn = mixed(mixed(recipe.seed, first), _BATCH)
            batch = task.batch(recipe.batch, drawn, "train", **{task.difficulty_option: length})
        seed = mixed(recipe.seed, step)
        device = next(self.model.parameters()).device
        tokens, targets, mask = (x[share].to(device) for x in (batch.tokens, batch.targets, batch.mask))
        generator = torch.Generator().manual_seed(mixed(seed, _DEPTH))
        torch.manual_seed(mixed(seed, _REST))  # for architectures that draw: a random start, noise
        iterations = recipe.depth.draw(length, step, generator)
        exercise = Exercise(
            self.model, task, tokens, targets, mask, iterations, recipe.gradient, generator, step, segment
        )
        if segment and self.carry is not None:
            exercise = exercise._replace(carry=self._state(tokens))
        outcome = recipe.supervision(exercise)
        self.carry = tuple(tensors(detach(outcome.state))) if segment + 1 < recipe.segments else None
        penalty, weight = outcome.loss.new_zeros(()), 0.0
        if recipe.penalty is not None:
            penalty, weight = self.model.penalty(outcome.state, outcome.context), recipe.penalty.at(step)
        loss = outcome.loss + weight * penalty if weight else outcome.loss
        right = masked_mean(task.correctness(outcome.logits, targets), mask)
        numbers = outcome.loss.item(), right.item(), length, iterations, penalty.item()
        return loss, Step(step + 1, *numbers, lr=0.0, gradient_norm=0.0)

    def _state(self, tokens: Tensor) -> Any:
        """The carry in the form of the model's states."""
        assert self.carry is not None
        with torch.no_grad():
            like = self.model.initial(self.model.encode(tokens))
        return from_tensors(like, [part.to(tokens.device) for part in self.carry])


def _step(training: _Training, step: int) -> Step:
    recipe, accelerator, folder = training.recipe, training.accelerator, training.folder
    rate = recipe.optimiser.rate(step, recipe.steps)
    for group in training.stepper.param_groups:
        group["lr"] = rate
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    loss, entry = training.forward(step, share)
    _check_number("loss", loss.item(), step, folder)
    accelerator.backward(loss)
    norm = float(accelerator.clip_grad_norm_(training.forward.parameters(), recipe.optimiser.clip))
    _check_number("norm of the gradient", norm, step, folder)  # before it reaches the weights
    training.stepper.step()
    training.stepper.zero_grad()
    return entry._replace(lr=rate, gradient_norm=norm)


def _check_number(what: str, value: float, step: int, folder: Path) -> None:
    if math.isfinite(value):
        return
    kept = f"The last checkpoint is kept in {folder}. " if (folder / checkpoint.FILE).exists() else ""
    raise LoopscopeError(
        f"The {what} must stay a finite number, but became {value} in step {step + 1}. {kept}"
        "Lower the recipe's lr or clip, or choose a norm that bounds the state, and train again."
    )


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LoopscopeError(
            f"{out} must be a folder that can be written, but can't be made ({error}). Choose another."
        ) from error
    return out


def _check_vocabulary(model: "LoopedModule", task: Task) -> None:
    if model.vocabulary != task.vocabulary:
        raise LoopscopeError(
            f"The model's vocabulary must be the task's, {task.vocabulary} for {task.name}, but is "
            f"{model.vocabulary}. "
            f'Put "vocabulary": {task.vocabulary} into the recipe\'s config.'
        )


@contextmanager
def _bar(shown: bool, name: str, done: int, last: int) -> Iterator[Any]:
    """A progress bar, or nothing; yields what is called with every step's line."""
    if not shown:
        yield lambda entry: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[told]}")) as bar:
        running = bar.add_task(name, total=last, completed=done, told="")
        yield lambda entry: bar.update(running, advance=1, told=_spoken(entry))


def _spoken(step: Step) -> str:
    return (
        f"loss {step.loss:.4f}, right {step.accuracy:.1%}, length {step.length}, iterations {step.iterations}"
    )
