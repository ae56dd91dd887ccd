"""sweep: train every trial of a grid, also if worker processes die."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.atomic_write import save_text
from ..common.errors import LoopscopeError
from ..common.folder_lock import exclusive_use
from ..common.to_json import to_json
from .executor import run_trials
from .grid import Grid, Trial, read_grid
from .progress_bar import progress_bar
from .report_page import report_page
from .sweep_result import SweepResult
from .trial_result import TrialResult, read_result
from .worker import WorkerReport, clear, folder_id, is_finished

if TYPE_CHECKING:
    from ..reports.document import Report

RESULTS = "results.json"


class Sweep(SweepResult):
    """The result of a sweep, with its page."""

    def page(self) -> "Report":
        """The sweep as one self-contained HTML page: `.save(path)` writes it."""
        return report_page(self)


# It is long because its docstring lists all that a user can choose.
def sweep(
    grid: Grid | str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> Sweep:
    """Train the trials of a grid that are not trained yet.

    Every trial has a folder of its own in `folder`; results.json there holds the results of all.
    Called again, it trains what is missing, resumes what was stopped, and retries what failed. In a
    script, call it below `if __name__ == "__main__":`, since every worker imports the script.

    >>> sweep("grid.toml", workers=2).page().save("sweep.html")

    Arguments:
        grid: a grid, or the path of its TOML file.
        folder: default runs/NAME, with the name of the grid.
        workers: processes on this machine; None: one for each core; 0: train the trials one after
            another in this process.
        scheduler: the address of a dask cluster whose workers share the folder, instead of
            processes on this machine.
        progress: whether progress is shown, on stderr.

    Raises:
        LoopscopeError: the grid or the cluster can't be used, or another sweep is working in the
            folder. A trial that fails doesn't raise: its
            result says why.
    """
    if workers is not None and scheduler is not None:
        raise LoopscopeError(
            "Either workers or a scheduler must be given: a cluster has its own workers. Leave --workers out."
        )
    grid = grid if isinstance(grid, Grid) else read_grid(grid)
    folder = (Path("runs") / grid.name if folder is None else Path(folder)).resolve()
    identity = folder_id(folder)
    with exclusive_use(folder, "sweep"):
        return Sweep(grid, folder, _train(grid, folder, identity, progress, workers, scheduler))


def _train(
    grid: Grid, folder: Path, identity: str, progress: bool, workers: int | None, scheduler: str | None
) -> tuple[TrialResult, ...]:
    """Train what is missing, and write the results of all."""
    reports: dict[Trial, WorkerReport] = {}
    missing = [trial for trial in grid.trials if not is_finished(folder / trial.name, trial.recipe)]
    for trial in grid.trials:
        if trial not in missing:
            clear(folder / trial.name)
    try:
        with progress_bar(grid, folder, len(grid.trials) - len(missing), progress) as show:

            def on_progress(ended: dict[Trial, WorkerReport], running: list[Trial]) -> None:
                reports.update(ended)
                show(ended, running)

            run_trials(
                grid,
                missing,
                folder,
                identity,
                on_progress=on_progress,
                workers=workers,
                scheduler=scheduler,
            )
    except KeyboardInterrupt:
        done = len(grid.trials) - len(missing) + sum(not report.error for report in reports.values())
        raise LoopscopeError(
            f"The sweep was stopped; {done} of its {len(grid.trials)} trainings are done. Run the same "
            "command to go on: trainings that were running resume from their checkpoints."
        ) from None
    finally:
        results = tuple(read_result(trial, folder / trial.name, reports.get(trial)) for trial in grid.trials)
        _write(folder / RESULTS, grid, results)
    return results


def _write(path: Path, grid: Grid, results: tuple[TrialResult, ...]) -> None:
    """results.json, for readers without loopscope."""
    content = {
        "grid": grid.name,
        "axes": {axis.name: list(axis.values) for axis in grid.axes},
        "trainings": [
            {"folder": trial.name, "coordinates": grid.values(trial), **to_json(result)}
            for trial, result in zip(grid.trials, results, strict=True)
        ],
    }
    try:
        save_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise LoopscopeError(
            f"{path} could not be written ({error}). The trainings next to it are complete: free some "
            "space, and run the same command again."
        ) from error
