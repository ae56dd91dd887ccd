"""What came of a trial: its last score and, where the training kept a history, when it learned what."""

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..errors import LoopscopeError
from ..files import load_header
from .grid import Trial
from .work import Answer, finished, weights

Phase = Literal["generalised", "memorised", "neither"]


class Moment(NamedTuple):
    """When a set of examples was learned, in optimiser steps: a step between two evaluations, and these."""

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
    """The task's, at the model's own length and depth, on fresh examples; see `loopscope.training.measured`."""
    twice: float | None = None
    """The same at twice the length."""
    seconds: float | None = None
    """Of processor time, for the training."""
    steps: int = 0
    learned: dict[str, Moment] = field(default_factory=dict)
    """By the name of the set of examples ("train", "test"), where the training kept a history; absent if never."""
    phase: Phase | None = None
    """None without a history."""
    delay: float | None = None
    """Steps from memorised (train) to generalised (test)."""
    waited: float | None = None
    """Steps from memorised to the end of a training that hasn't generalised: its delay is longer than that."""
    verdict: str = ""


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


def history(folder: Path) -> Any | None:
    """The history that the training kept (`loopscope.history.History`), or None."""
    try:
        return importlib.import_module("loopscope.history").load_history(folder)
    except (ImportError, LoopscopeError, OSError):
        return None


def _dated(folder: Path) -> dict[str, Any]:
    """When the trial memorised and generalised, as the analysis `grokking` finds it; nothing without a history."""
    from .. import analyses

    kept = history(folder)
    if kept is None or "grokking" not in analyses.names():
        return {}
    try:
        found: Any = analyses.measure("grokking", kept)
    except LoopscopeError:  # it has no such sets
        return {}
    learned = {
        name: Moment(*(float(getattr(dated, part)) for part in Moment._fields))
        for name, dated in found.transitions.items()
        if dated is not None and dated.step is not None
    }
    train, test = learned.get("train"), learned.get("test")
    delay = (
        found.delay if found.delay is not None else None if not (train and test) else test.step - train.step
    )
    return {
        "learned": learned,
        "phase": "generalised" if test else "memorised" if train else "neither",
        "delay": delay,
        "waited": float(kept.steps[-1]) - train.step if train and not test else None,
        "verdict": found.verdict.name,
    }
