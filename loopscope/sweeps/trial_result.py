"""The result of a trial: its last score and, if the training kept a history, when it memorised and
when it generalised."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .. import models
from ..common.errors import LoopscopeError
from ..training.history import History, learning_times, load_history
from .grid import Trial
from .worker import WorkerReport, is_finished, weights_file

Phase = Literal["generalised", "memorised", "neither"]


class LearningTime(NamedTuple):
    """When a set of examples was learned, in optimiser steps: between two evaluations."""

    step: float
    """The estimate between the two."""
    low: float
    """The evaluation before."""
    high: float
    """The evaluation after."""


@dataclass(frozen=True)
class TrialResult:
    """One trial's result, in numbers."""

    status: Literal["finished", "failed", "missing"]
    error: str = ""
    """Why it failed, in a sentence."""
    resumed_step: int = 0
    """The step from which this sweep resumed it; 0 if it didn't."""
    score: float | None = None
    """The task's score at the model's own length and depth, on fresh examples; see
    `loopscope.training.measure_entry`."""
    twice: float | None = None
    """The same at twice the length."""
    seconds: float | None = None
    """Processor time of the training."""
    steps: int = 0
    """Optimiser steps of the recipe."""
    learning_times: dict[str, LearningTime] = field(default_factory=dict)
    """By the name of the set of examples ("train", "test"), if the training kept a history; absent
    if the set was never learned."""
    phase: Phase | None = None
    """None without a history of enough looks."""
    delay: float | None = None
    """Steps from memorised (train) to generalised (test)."""
    delay_bound: float | None = None
    """Steps from memorised to the end of a training that hasn't generalised: its delay is longer
    than that (right-censored)."""


def read_result(trial: Trial, folder: Path, report: WorkerReport | None = None) -> TrialResult:
    """The result of a trial, from its folder.

    Arguments:
        report: of its worker, if it ran in this sweep.
    """
    report = report or WorkerReport()
    if not is_finished(folder, trial.recipe):
        return TrialResult("failed" if report.error else "missing", report.error)
    measured = models.header(weights_file(folder, trial.recipe)).get("measured", {})
    return TrialResult(
        "finished",
        resumed_step=report.resumed_step,
        score=measured.get("accuracy"),
        twice=(measured.get("twice") or {}).get("accuracy"),
        seconds=measured.get("processor_seconds"),
        steps=trial.recipe.steps,
        **_learning(folder),
    )


def read_history(folder: Path) -> History | None:
    """The history that the training kept, or None."""
    try:
        return load_history(folder)
    except LoopscopeError:
        return None


def _learning(folder: Path) -> dict[str, Any]:
    """When the trial memorised and generalised, by the same rule as the analysis `grokking`; empty
    without a history, or with too few looks to tell (`maths.changepoints.LEAST`)."""
    history = read_history(folder)
    if history is None:
        return {}
    try:
        dates = learning_times(history)
    except LoopscopeError:  # too few looks
        return {}
    times = {
        name: LearningTime(time.step, time.low, time.high) for name, time in dates.items() if time is not None
    }
    train, test = times.get("train"), times.get("test")
    return {
        "learning_times": times,
        "phase": "generalised" if test else "memorised" if train else "neither",
        "delay": test.step - train.step if train and test else None,
        "delay_bound": float(history.steps[-1]) - train.step if train and not test else None,
    }
