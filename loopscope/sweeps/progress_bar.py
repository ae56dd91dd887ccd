"""How far a sweep is: bars on a terminal, plain lines elsewhere."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..training.trainer import LOG
from .executor import Watcher
from .grid import Grid, Trial
from .worker import Answer

EVERY = 30.0
"""Seconds between plain lines while no trial ends."""


@contextmanager
def progress(grid: Grid, folder: Path, done: int, shown: bool = True) -> Iterator[Watcher]:
    """Shows what the yielded function is told, on stderr.

    Arguments:
        done: trials that had ended before.
    """
    if not shown:
        yield lambda ended, running: None
    elif sys.stderr.isatty():
        with _bars(grid, folder, done) as watch:
            yield watch
    else:
        yield _lines(grid, folder, done)


def step_of(folder: Path) -> int:
    """The last step in a trial's log; 0 before the first."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            lines = file.read().split(b"\n")
    except OSError:
        return 0
    for line in reversed(lines[:-1]):  # what comes after the last line's end may be half a line
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0


@contextmanager
def _bars(grid: Grid, folder: Path, done: int) -> Iterator[Watcher]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        whole = bars.add_task(f"[bold]{escape(grid.name)}", total=len(grid.trials), completed=done)
        shown: dict[Trial, object] = {}

        def watch(ended: dict[Trial, Answer], running: list[Trial]) -> None:
            for trial, answer in ended.items():
                bars.advance(whole)
                if answer.failed:
                    bars.print(f"[red]{escape(grid.told(trial))} failed:[/red] {escape(answer.failed)}")
            for trial in [t for t in shown if t not in running]:
                bars.remove_task(shown.pop(trial))  # type: ignore[arg-type]
            for trial in running:
                if trial not in shown:
                    shown[trial] = bars.add_task(f"  {escape(grid.told(trial))}", total=trial.recipe.steps)
                bars.update(shown[trial], completed=step_of(folder / trial.name))  # type: ignore[arg-type]

        yield watch


def _lines(grid: Grid, folder: Path, done: int) -> Watcher:
    said = time.monotonic()

    def write(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def watch(ended: dict[Trial, Answer], running: list[Trial]) -> None:
        nonlocal done, said
        now = "; ".join(
            f"{grid.told(trial)} at step {step_of(folder / trial.name)} of {trial.recipe.steps}"
            for trial in running
        )
        for trial, answer in ended.items():
            done += 1
            how = f"failed: {answer.failed}" if answer.failed else "done"
            if answer.resumed:
                how += f", from step {answer.resumed} on"
            write(f"{done} of {len(grid.trials)}: {grid.told(trial)} {how}")
        if running and time.monotonic() - said > EVERY:
            write(f"{done} of {len(grid.trials)}; running: {now}")
        if ended or time.monotonic() - said > EVERY:
            said = time.monotonic()

    return watch
