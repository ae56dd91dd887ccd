"""A worker of a sweep: it trains one trial in the trial's folder and reports how that ended,
instead of raising."""

import contextlib
import json
import os
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import models
from ..common.atomic_write import remove_litter, save_text
from ..common.errors import LoopscopeError
from ..common.json_text import read_json
from ..common.reading import read_text
from ..shelves.use import use
from ..training import Recipe, checkpoint, differences, train

ID_FILE, RUNNING_FILE, LOCK_FILE, TRACE_FILE = ".sweep", "running.json", ".lock", "error.txt"

_training_lock = threading.Lock()  # training uses torch's generator, of which a process has one


class WorkerReport(NamedTuple):
    """How a trial ended."""

    error: str = ""
    """Why it failed, in a sentence; empty if it didn't fail."""
    resumed_step: int = 0
    """The step from which it was resumed."""


def run_trial(
    recipe: Mapping[str, Any],
    folder: str,
    identity: str,
    checkpoint_every: int,
    log_every: int,
    sources: Sequence[Any] = (),
) -> WorkerReport:
    """Train by `recipe` in `folder`, or resume there. Every error is part of the report, so that
    the scheduler doesn't retry for ever.

    Arguments:
        recipe: as JSON.
        identity: the id that the sweep's folder must hold (see `folder_id`); a worker that reads
            something else doesn't share the folder.
        sources: what the user put on the shelves (`loopscope.shelves.use.sources`).
    """
    path = Path(folder)
    if not has_folder_id(str(path.parent), identity):
        return WorkerReport(
            f"The sweep's folder must be visible to every worker, but {socket.gethostname()} doesn't see "
            f"{path.parent}. Choose a folder that they share: --folder."
        )
    try:
        for source in sources:
            use(source)
        parsed = Recipe.from_json(recipe)
        with folder_lock(path), _training_lock, _threads(1):
            if is_finished(path, parsed):
                return WorkerReport()
            resumed_step = checkpoint.done_steps(path)
            with _running_file(path):
                train(parsed, path, progress=False, checkpoint_every=checkpoint_every, log_every=log_every)
        return WorkerReport(resumed_step=resumed_step)
    except LoopscopeError as error:
        return WorkerReport(str(error))
    except Exception as error:
        with contextlib.suppress(OSError):
            save_text(path / TRACE_FILE, traceback.format_exc())
        return WorkerReport(f"{type(error).__name__}: {error} (see {path / TRACE_FILE}).")


def weights_file(folder: Path, recipe: Recipe) -> Path:
    """The file that a finished training leaves."""
    return folder / f"{recipe.architecture}.safetensors"


def is_finished(folder: Path, recipe: Recipe) -> bool:
    """Whether the folder holds the final weights of exactly this recipe."""
    try:
        header = models.header(weights_file(folder, recipe))
    except LoopscopeError:
        return False
    there = header.get("recipe", {})
    return header.get("step") == recipe.steps and not differences(there, recipe.to_json())


def folder_id(folder: Path) -> str:
    """The id in the sweep's folder, by which workers check that they see the same folder. The
    folder and the id are made if they don't exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / ID_FILE).exists():
            save_text(folder / ID_FILE, uuid.uuid4().hex)
        return read_text(folder / ID_FILE, "the id of a sweep's folder")
    except OSError as error:
        raise LoopscopeError(
            f"{folder} must be a folder that can be written, but isn't ({error}). Choose another: --folder."
        ) from error


def has_folder_id(folder: str, identity: str) -> bool:
    """Whether this process sees the folder with that id."""
    try:
        return read_text(Path(folder) / ID_FILE, "the id of a sweep's folder") == identity
    except LoopscopeError:
        return False


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Exclusive use of the folder, on this machine and, if the file system supports locks, on all
    machines that share it.

    The kernel releases the lock when its process ends, however it ends. A worker that was given up
    but still trains keeps the lock: the next worker waits, finds the training finished, and does
    nothing.
    """
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK_FILE, fallback_to_soft=False, poll_interval=0.2):
            yield
    except NotImplementedError as error:
        raise LoopscopeError(
            f"{folder} must be on a file system with locks, for two workers never to train in one folder, "
            f"but isn't ({error}). Choose another: --folder."
        ) from error


def clear(folder: Path) -> None:
    """Remove what a process that was killed has left in the folder of a finished trial."""
    (folder / RUNNING_FILE).unlink(missing_ok=True)
    remove_litter(folder)


def running_process(folder: Path) -> dict[str, Any] | None:
    """The process that trains in the folder: host, pid; None if there is none. A process that was
    killed may still be listed."""
    try:
        who = read_json(read_text(folder / RUNNING_FILE, "a note"), "it")
        return {"host": str(who["host"]), "pid": int(who["pid"])}
    except (LoopscopeError, KeyError, TypeError, ValueError):
        return None


@contextlib.contextmanager
def _running_file(folder: Path) -> Iterator[None]:
    path = folder / RUNNING_FILE
    save_text(path, json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
