"""The progress of a sweep: bars on a terminal, plain lines elsewhere."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..training.step_log import LOG
from .executor import ProgressCallback
from .grid import Grid, Trial
from .worker import WorkerReport

INTERVAL = 30.0
"""Seconds between plain lines while no trial ends."""


@contextmanager
def progress_bar(grid: Grid, folder: Path, done: int, visible: bool = True) -> Iterator[ProgressCallback]:
    """Yield a callback that shows the progress on stderr.

    Arguments:
        done: trials that had ended before.
        visible: False for a callback that shows nothing.
    """
    if not visible:
        yield lambda ended, running: None
    elif sys.stderr.isatty():
        with _bars(grid, folder, done) as callback:
            yield callback
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
    for line in reversed(lines[:-1]):  # what follows the last newline may be half a line
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            continue
    return 0


@contextmanager
def _bars(grid: Grid, folder: Path, done: int) -> Iterator[ProgressCallback]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        whole = bars.add_task(f"[bold]{escape(grid.name)}", total=len(grid.trials), completed=done)
        rows: dict[Trial, TaskID] = {}

        def callback(ended: dict[Trial, WorkerReport], running: list[Trial]) -> None:
            for trial, report in ended.items():
                bars.advance(whole)
                if report.error:
                    bars.print(f"[red]{escape(grid.describe(trial))} failed:[/red] {escape(report.error)}")
            for trial in [t for t in rows if t not in running]:
                bars.remove_task(rows.pop(trial))
            for trial in running:
                if trial not in rows:
                    rows[trial] = bars.add_task(f"  {escape(grid.describe(trial))}", total=trial.recipe.steps)
                bars.update(rows[trial], completed=step_of(folder / trial.name))

        yield callback


def _lines(grid: Grid, folder: Path, done: int) -> ProgressCallback:
    last_line = time.monotonic()

    def write(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def callback(ended: dict[Trial, WorkerReport], running: list[Trial]) -> None:
        nonlocal done, last_line
        now = "; ".join(
            f"{grid.describe(trial)} at step {step_of(folder / trial.name)} of {trial.recipe.steps}"
            for trial in running
        )
        for trial, report in ended.items():
            done += 1
            status = f"failed: {report.error}" if report.error else "done"
            if report.resumed_step:
                status += f", from step {report.resumed_step} on"
            write(f"{done} of {len(grid.trials)}: {grid.describe(trial)} {status}")
        if running and time.monotonic() - last_line > INTERVAL:
            write(f"{done} of {len(grid.trials)}; running: {now}")
        if ended or time.monotonic() - last_line > INTERVAL:
            last_line = time.monotonic()

    return callback
