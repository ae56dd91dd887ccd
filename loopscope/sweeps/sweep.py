"""sweep: every training of a grid, whatever happens to the processes that make them."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import tasks
from ..common.errors import LoopscopeError
from ..common.files import save_text
from ..common.to_json import to_json
from .executor import farm
from .grid import Grid, Trial, read_grid
from .outcome import Outcome, outcome
from .progress_bar import progress
from .worker import Answer, finished, sign

if TYPE_CHECKING:
    from ..reports.report import Report

RESULTS = "results.json"


@dataclass(frozen=True)
class Sweep:
    """A grid, and what came of its trials."""

    grid: Grid
    folder: Path
    outcomes: tuple[Outcome, ...]
    """By trial, in the grid's order."""

    @property
    def complete(self) -> bool:
        """Whether every trial has ended well."""
        return all(result.status == "finished" for result in self.outcomes)

    @property
    def score(self) -> str:
        """What the trainings' scores are, such as "accuracy"."""
        recipe = self.grid.trials[0].recipe
        return tasks.build(recipe.task, **recipe.options).score

    def page(self) -> "Report":
        """The sweep on one self-contained HTML page: `.save(path)`."""
        from .report_page import page_of

        return page_of(self)

    def __str__(self) -> str:
        count = {
            s: sum(result.status == s for result in self.outcomes) for s in ("finished", "failed", "missing")
        }
        rest = "".join(f", {count[s]} {s}" for s in ("failed", "missing") if count[s])
        return (
            f"{count['finished']} of {len(self.outcomes)} trainings of {self.grid.name} are finished{rest}."
        )


def sweep(
    grid: Grid | str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    shown: bool = True,
) -> Sweep:
    """Train what a grid tells and isn't there yet.

    Every trial has a folder of its own in `folder`, and results.json there tells what came of all.
    Given again, it trains what is missing, goes on with what was stopped, and tries what failed
    once more. In a script, call it below `if __name__ == "__main__":`, since every worker imports
    the script.

    Arguments:
        grid: a grid, or the TOML file that tells it.
        folder: runs/NAME of the grid unless given.
        workers: processes on this machine; None: one for each core; 0: one trial after another in
            this process.
        scheduler: the address of a dask cluster that sees the folder, in place of processes on this
            machine.
        shown: whether progress is shown, on stderr.

    Raises:
        LoopscopeError: of the grid or the cluster; a trial that fails is an outcome.
    """
    if workers is not None and scheduler is not None:
        raise LoopscopeError(
            "Either workers or a scheduler must be given: a cluster has its own workers. Leave --workers out."
        )
    grid = grid if isinstance(grid, Grid) else read_grid(Path(grid))
    folder = (Path("runs") / grid.name if folder is None else Path(folder)).resolve()
    known = sign(folder)
    answers: dict[Trial, Answer] = {}
    missing = [trial for trial in grid.trials if not finished(folder / trial.name, trial.recipe)]
    try:
        with progress(grid, folder, len(grid.trials) - len(missing), shown) as show:

            def watch(ended: dict[Trial, Answer], running: list[Trial]) -> None:
                answers.update(ended)
                show(ended, running)

            farm(grid, missing, folder, known, watch=watch, workers=workers, scheduler=scheduler)
    except KeyboardInterrupt:
        done = len(grid.trials) - len(missing) + sum(not answer.failed for answer in answers.values())
        raise LoopscopeError(
            f"The sweep was stopped; {done} of its {len(grid.trials)} trainings are done. Run the same "
            "command to go on: what was running goes on from its checkpoint."
        ) from None
    finally:
        result = tuple(outcome(trial, folder / trial.name, answers.get(trial)) for trial in grid.trials)
        _write(folder / RESULTS, grid, result)
    return Sweep(grid, folder, result)


def _write(path: Path, grid: Grid, outcomes: tuple[Outcome, ...]) -> None:
    """results.json: what a reader needs who doesn't have loopscope."""
    said = {
        "grid": grid.name,
        "axes": {axis.name: list(axis.values) for axis in grid.axes},
        "trainings": [
            {"folder": trial.name, "coordinates": grid.values(trial), **to_json(result)}
            for trial, result in zip(grid.trials, outcomes, strict=True)
        ],
    }
    try:
        save_text(path, json.dumps(said, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise LoopscopeError(
            f"{path} could not be written ({error}). The trainings beside it are whole: free some space, "
            "and run the same command again."
        ) from error
