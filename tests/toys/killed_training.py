"""Trains, and is killed again and again: `python -m tests.toys.killed_training FOLDER`.
test_training.py compares what is left.

A process that has imported everything and computed nothing forks a child for every attempt, and the
kernel ends the child (SIGKILL: no clean-up, nothing flushed) at the moment that the attempt names.
FOLDER/killed is what they leave, one after another, FOLDER/whole is made by one that nobody
disturbs.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import accelerate  # noqa: F401 (once, not in every child)

from loopscope import models
from loopscope.training import AdamW, Growing, Last, PerLength, Recipe, train

RECIPE = Recipe(
    architecture="universal",
    task="prefix-parity",
    steps=24,
    depth=PerLength(0.5, 1.5),
    config={"vocabulary": 3, "width": 16, "heads": 2, "iterations": 8, "norm": "stream", "injection": "add"},
    options={"length": 8},
    batch=8,
    gradient=Last(3),
    curriculum=Growing(start=5, steps=12),
    optimiser=AdamW(lr=0.01, warmup=4, decay=4),
)
EVERY = 3


def run(folder: Path) -> None:
    train(RECIPE, folder, progress=False, checkpoint_every=EVERY, log_every=1)


def run_in_bf16(folder: Path) -> None:
    train(RECIPE, folder, progress=False, steps=2, precision="bf16")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in(name: str, call: int, after: bool = False) -> Callable[[], None]:
    """Die in the process's n-th call of os.<name>: just before it takes effect, or just after."""

    def doom() -> None:
        real, calls = getattr(os, name), []

        def last(*arguments, **named):
            calls.append(1)
            if len(calls) == call and not after:
                die()
            done = real(*arguments, **named)
            if len(calls) == call:
                die()
            return done

        setattr(os, name, last)

    return doom


def attempt(
    folder: Path,
    doom: Callable[[], None] = lambda: None,
    watch: Callable[[], bool] | None = None,
    run: Callable[[Path], None] = run,
) -> int:
    """One child; its exit status. `watch` is asked again and again, and the child is killed when it
    says yes."""
    child = os.fork()
    if child == 0:
        try:
            doom()
            run(folder)
        finally:
            os._exit(3 if sys.exc_info()[0] else 0)
    while watch is not None and not watch():
        if os.waitpid(child, os.WNOHANG)[0]:
            return 0
        time.sleep(0.0005)
    if watch is not None:
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def main(folder: Path) -> None:
    AdamW().build(models.build("universal").parameters())  # as heavy to import, and done once, too
    killed, whole = folder / "killed", folder / "whole"
    log = killed / "log.jsonl"

    def logged(lines: int) -> Callable[[], bool]:
        return lambda: log.exists() and log.read_bytes().count(b"\n") >= lines

    # fsync: the new checkpoint is written beside the old one, not yet in its place. replace: it
    # takes its place. The first call of both is the log's cut, before any checkpoint.
    attempts = [
        ("before the first checkpoint", attempt(killed, watch=logged(2))),
        ("while a checkpoint was written", attempt(killed, die_in("fsync", 3))),
        ("before a checkpoint took its place", attempt(killed, die_in("replace", 2))),
        ("after a checkpoint took its place", attempt(killed, die_in("replace", 2, after=True))),
        ("between two checkpoints", attempt(killed, watch=logged(16))),
        ("while a file was being written", attempt(killed, watch=lambda: any(killed.glob(".*.part")))),
    ]
    for moment, status in attempts:
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            sys.exit(f"The child that was to die {moment} lived on (status {status}).")
    if attempt(killed) or attempt(whole) or attempt(folder / "bf16", run=run_in_bf16):
        sys.exit("A run that nobody disturbed failed.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
