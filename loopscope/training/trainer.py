"""train: a training that can be killed at any moment and resumed, and ends in the same weights, bit
for bit."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import torch

from ..common.atomic_write import remove_litter
from ..common.errors import LoopscopeError
from ..common.folder_lock import exclusive_use
from ..common.progress import progress as progress_bar
from ..common.to_json import to_json
from . import checkpoint, step_log
from .ema import Average
from .export import export
from .history_writer import HistoryWriter
from .objective import LogEntry
from .recipe import Recipe
from .session import Session, is_main_process, start_session
from .validation import check_count
from .zoo_recipes import named_recipe

if TYPE_CHECKING:  # TransformerLens comes with the first model, not with the recipes
    from ..nn import LoopedModule


# It is long because its docstring lists all that a user can choose.
def train(
    recipe: Recipe | str | Path | ModuleType,
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
    """Train by a recipe, or resume the training in `out`.

    The folder `out` gets `log.jsonl` (see `LogEntry`), `checkpoint.safetensors`, and at the end
    NAME.safetensors, which `loopscope.models.load` reads. A recipe with a history also leaves
    NAME.history.safetensors for `loopscope.load_history`; during training `load_history` can read
    the folder.

    >>> model = train("universal-prefix-parity", out="runs/parity", steps=500)

    Arguments:
        recipe: a recipe, the name of an entry that has one, or a file of your own with `RECIPES`
            ("mine.py", or "mine.py:NAME" if it has several).
        out: a folder; default runs/NAME.
        steps: stop after this many steps of the recipe, to resume later; None: all of them.
        seed: instead of the recipe's own.
        resume: False starts again and overwrites what is in `out`.
        progress: whether to show a progress bar.
        checkpoint_every, log_every: in steps.
        precision: "no" for float32, "bf16" for mixed precision, as accelerate calls them.

    Returns:
        The model, in evaluation mode, with its `task` and `name`.

    Raises:
        LoopscopeError: another training is working in the folder; the checkpoint is of another
            recipe; the disk is full; the loss is no longer a finite number.
    """
    name, recipe = named_recipe(recipe)
    last = recipe.steps if steps is None else steps
    check_count("steps", last, least=1)
    check_count("checkpoint_every", checkpoint_every, least=1)
    check_count("log_every", log_every, least=1)
    if last > recipe.steps:
        raise LoopscopeError(f"steps must be at most the recipe's, {recipe.steps}, but are {last}.")
    folder = _folder(Path("runs") / name if out is None else Path(out))
    if seed is not None:
        recipe = replace(recipe, seed=seed)
    with exclusive_use(folder, "training") if is_main_process() else nullcontext():
        remove_litter(folder)
        session = start_session(recipe, name, folder, precision=precision, resume=resume)
        visible = None if progress and session.is_main else False
        bar = progress_bar(name, last, visible, begun=session.first_step)
        history = _run(session, last, bar, checkpoint_every=checkpoint_every, log_every=log_every)
        return _finish(session, history, last)


def _run(
    session: Session,
    last: int,
    bar: AbstractContextManager[Callable[..., None]],
    *,
    checkpoint_every: int,
    log_every: int,
) -> HistoryWriter | None:
    """Run the steps up to the last. Returns the writer of the history, if the recipe keeps one."""
    recipe, folder, model, first = session.recipe, session.folder, session.model, session.first_step
    if session.is_main:
        step_log.cut(folder / step_log.LOG, first)
    history = None
    if recipe.history is not None and session.is_main:
        history = HistoryWriter(folder, recipe.history, model, session.objective.task, first_step=first)
        history.look(first, session.weights, last=first == recipe.steps)
    model.train()
    with torch.random.fork_rng(devices=[]), bar as advance:
        for step in range(first, last):
            entry = _step(session, step)
            if session.average is not None and recipe.average is not None:
                recipe.average.update(session.average, model, step)
            advance(partial(_summary, session.name, entry))
            if history is not None:
                history.look(step + 1, session.weights, last=step + 1 == recipe.steps)
            if session.is_main and (step + 1) % log_every == 0:
                step_log.append(folder / step_log.LOG, entry._asdict())
            if session.is_main and ((step + 1) % checkpoint_every == 0 or step + 1 == last):
                session.save_checkpoint(entry)
    return history


def _step(session: Session, step: int) -> LogEntry:
    """One optimiser step."""
    recipe, accelerator, folder = session.recipe, session.accelerator, session.folder
    rate = recipe.optimiser.rate(step, recipe.steps)
    for group in session.stepper.param_groups:
        group["lr"] = rate
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    loss, entry = session.forward(step, share)
    _check_finite("loss", loss.item(), step, folder)
    accelerator.backward(loss)
    norm = float(accelerator.clip_grad_norm_(session.forward.parameters(), recipe.optimiser.clip))
    _check_finite("norm of the gradient", norm, step, folder)  # before it reaches the weights
    session.stepper.step()
    session.stepper.zero_grad()
    return entry._replace(lr=rate, gradient_norm=norm)


def _finish(session: Session, history: HistoryWriter | None, last: int) -> "LoopedModule":
    """Write the final files. Returns the model with its final weights."""
    recipe, name, folder, model = session.recipe, session.name, session.folder, session.model
    if session.average is not None:
        Average.put(session.average, model)
    if history is not None:
        settings = recipe.to_json()
        config = settings["config"] | to_json(vars(model.config))
        history.bundle(
            folder / f"{name}.history.safetensors", {"entry": name, "recipe": settings, "config": config}
        )
    if session.is_main:
        steps = max(session.first_step, last)
        export(
            folder / f"{name}.safetensors", model, name, recipe, step=steps, seconds=session.clock.seconds()
        )
    return model.to("cpu").eval()


def _check_finite(what: str, value: float, step: int, folder: Path) -> None:
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


def _summary(name: str, entry: LogEntry) -> str:
    return (
        f"{name}: loss {entry.loss:.4f}, accuracy {entry.accuracy:.1%}, length {entry.length}, "
        f"iterations {entry.iterations}"
    )
