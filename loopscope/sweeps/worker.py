"""What a worker does: train one trial in its folder, alone there, and say how it ended instead of
raising."""

import contextlib
import json
import os
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..common.errors import LoopscopeError
from ..common.files import clear_parts, load_header, save_text
from ..training import Recipe, checkpoint, differences, train

SIGN, MARK, LOCK, TRACE = ".sweep", "running.json", ".lock", "error.txt"

_alone = threading.Lock()  # training draws from torch's own generator, which a process has once


class Answer(NamedTuple):
    """How a trial ended."""

    failed: str = ""
    """Why, in a sentence; empty if it ended well."""
    resumed: int = 0
    """The step from which it went on."""


def work(recipe: Mapping[str, Any], folder: str, sign: str, checkpoint_every: int, log_every: int) -> Answer:
    """Train by `recipe` in `folder`, or go on there. Whatever goes wrong is the answer, so that
    nobody tries for ever.

    Arguments:
        recipe: as JSON can say it.
        sign: what the sweep's folder must hold; a worker that reads something else sees another
            folder.
    """
    place = Path(folder)
    if not sees(str(place.parent), sign):
        return Answer(
            f"The sweep's folder must be visible to every worker, but {socket.gethostname()} doesn't see "
            f"{place.parent}. Choose a folder that they share: --folder."
        )
    try:
        said = Recipe.from_json(recipe)
        with lock(place), _alone, _threads(1):
            if finished(place, said):
                return Answer()
            resumed = _checkpointed(place)
            with _marked(place):
                train(said, place, progress=False, checkpoint_every=checkpoint_every, log_every=log_every)
        return Answer(resumed=resumed)
    except LoopscopeError as error:
        return Answer(str(error))
    except Exception as error:
        with contextlib.suppress(OSError):
            (place / TRACE).write_text(traceback.format_exc(), encoding="utf-8")
        return Answer(f"{type(error).__name__}: {error} (see {place / TRACE}).")


def weights(folder: Path, recipe: Recipe) -> Path:
    """The file that a training leaves when it is over."""
    return folder / f"{recipe.architecture}.safetensors"


def finished(folder: Path, recipe: Recipe) -> bool:
    """Whether the folder holds the weights that this very recipe ends in."""
    try:
        header = load_header(weights(folder, recipe), kind="checkpoint")
    except LoopscopeError:
        return False
    return header.get("step") == recipe.steps and not differences(header["recipe"], recipe.to_json())


def sign(folder: Path) -> str:
    """The sweep's folder's own sign, by which workers know that they see the same one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / SIGN).exists():
            (folder / SIGN).write_text(uuid.uuid4().hex, encoding="utf-8")
        return (folder / SIGN).read_text(encoding="utf-8")
    except OSError as error:
        raise LoopscopeError(
            f"{folder} must be a folder that can be written, but isn't ({error}). Choose another: --folder."
        ) from error


def sees(folder: str, sign: str) -> bool:
    """Whether this process sees the folder that holds the sign."""
    try:
        return (Path(folder) / SIGN).read_text(encoding="utf-8") == sign
    except OSError:
        return False


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Alone in the folder, on this machine and, where the file system knows locks, on all that
    share it.

    The kernel gives the lock back when its process ends, however it ends. A worker that was given
    up, but still trains, keeps it: whoever comes next waits, finds the training done, and has
    nothing to do.
    """
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, fallback_to_soft=False, poll_interval=0.2):
            yield
    except NotImplementedError as error:
        raise LoopscopeError(
            f"{folder} must be on a file system with locks, for two workers never to train in one folder, "
            f"but isn't ({error}). Choose another: --folder."
        ) from error


def running(folder: Path) -> dict[str, Any] | None:
    """Who trains in the folder: host, pid; None if nobody does. One that was killed may still be
    named."""
    try:
        return json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _marked(folder: Path) -> Iterator[None]:
    mark = folder / MARK
    clear_parts(mark)
    save_text(mark, json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}))
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _checkpointed(folder: Path) -> int:
    """The step of the folder's checkpoint; 0 if there is none."""
    try:
        return load_header(folder / checkpoint.FILE, checkpoint.KIND)["step"]
    except LoopscopeError:
        return 0
