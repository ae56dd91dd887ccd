"""The result of a sweep: the grid, and the result of each of its trials."""

from dataclasses import dataclass
from pathlib import Path

from .. import tasks
from .grid import Grid
from .trial_result import TrialResult


@dataclass(frozen=True)
class SweepResult:
    """A grid with the results of its trials."""

    grid: Grid
    folder: Path
    """The folder that holds the folders of the trials."""
    results: tuple[TrialResult, ...]
    """By trial, in the grid's order."""

    @property
    def complete(self) -> bool:
        """Whether every trial is finished."""
        return all(result.status == "finished" for result in self.results)

    @property
    def score(self) -> str:
        """The name of the task's score, such as "accuracy"."""
        recipe = self.grid.trials[0].recipe
        return tasks.build(recipe.task, **recipe.options).score

    @property
    def has_histories(self) -> bool:
        """Whether any training kept a history of enough looks to know when it memorised."""
        return any(result.phase is not None for result in self.results)

    def __str__(self) -> str:
        count = {
            status: sum(result.status == status for result in self.results)
            for status in ("finished", "failed", "missing")
        }
        rest = "".join(f", {count[s]} {s}" for s in ("failed", "missing") if count[s])
        return f"{count['finished']} of {len(self.results)} trainings of {self.grid.name} are finished{rest}."
