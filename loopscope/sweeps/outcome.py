"""What came of a trial: its last score and, where the training kept a history, when it learned
what."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..common.errors import LoopscopeError
from ..common.files import load_header
from ..training.history import History, load_history, reached
from .grid import Trial
from .worker import Answer, finished, weights

Phase = Literal["generalised", "memorised", "neither"]


class Moment(NamedTuple):
    """When a set of examples was learned, in optimiser steps: a step between two evaluations, and
    these."""

    step: float
    low: float
    high: float


@dataclass(frozen=True)
class Outcome:
    """One trial's result, in numbers."""

    status: Literal["finished", "failed", "missing"]
    failed: str = ""
    """Why, in a sentence."""
    resumed: int = 0
    """The step from which this sweep went on with it."""
    score: float | None = None
    """The task's, at the model's own length and depth, on fresh examples; see
    `loopscope.training.measured`."""
    twice: float | None = None
    """The same at twice the length."""
    seconds: float | None = None
    """Of processor time, for the training."""
    steps: int = 0
    learned: dict[str, Moment] = field(default_factory=dict)
    """By the name of the set of examples ("train", "test"), where the training kept a history;
    absent if never."""
    phase: Phase | None = None
    """None without a history."""
    delay: float | None = None
    """Steps from memorised (train) to generalised (test)."""
    waited: float | None = None
    """Steps from memorised to the end of a training that hasn't generalised: its delay is longer
    than that."""


def outcome(trial: Trial, folder: Path, answer: Answer | None = None) -> Outcome:
    """Read what a trial left in its folder.

    Arguments:
        answer: how it ended, if it ran in this sweep.
    """
    said = answer or Answer()
    if not finished(folder, trial.recipe):
        return Outcome("failed" if said.failed else "missing", said.failed)
    told = load_header(weights(folder, trial.recipe), kind="checkpoint")["measured"]
    return Outcome(
        "finished",
        resumed=said.resumed,
        score=told.get("accuracy"),
        twice=(told.get("twice") or {}).get("accuracy"),
        seconds=told.get("processor_seconds"),
        steps=trial.recipe.steps,
        **_dated(folder),
    )


def history(folder: Path) -> History | None:
    """The history that the training kept, or None."""
    try:
        return load_history(folder)
    except LoopscopeError:
        return None


def _dated(folder: Path) -> dict[str, Any]:
    """When the trial memorised and generalised, dated as the analysis `grokking` does; nothing
    without a history."""
    kept = history(folder)
    if kept is None:
        return {}
    learned = {
        name: Moment(dated.step, dated.low, dated.high)
        for name, dated in reached(kept).items()
        if dated is not None
    }
    train, test = learned.get("train"), learned.get("test")
    return {
        "learned": learned,
        "phase": "generalised" if test else "memorised" if train else "neither",
        "delay": test.step - train.step if train and test else None,
        "waited": float(kept.steps[-1]) - train.step if train and not test else None,
    }
