"""score_of: how correct a run's own answers are after k iterations. Every accuracy of a run that a
page quotes is this one."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.score_band import ScoreBand, score_band
from ..runs.run import Run
from ..tasks import Task
from .labels import labels_of, task_key, task_of


@dataclass(frozen=True)
class RunScore:
    """The task's score of a run's own examples, after each iteration whose state was kept."""

    task: Task
    iterations: tuple[int, ...]
    """k of each row."""
    correctness: Float[Tensor, "iteration example position"]
    """1 for a correct answer (`Task.correctness`); NaN where none is to be given."""
    mask: Bool[Tensor, "example position"]
    """Where an answer is to be given."""
    difficulty: Float[Tensor, " example"]
    """In the task's unit."""

    @property
    def examples(self) -> int:
        """How many examples have an answer to give."""
        return int(self.mask.any(1).sum())

    @property
    def name(self) -> str:
        """What the mean of `correctness` is called."""
        if self.task.continuous:
            return self.task.score
        return "answers correct" if self.task.shape is None else "cells correct"

    @property
    def whole_name(self) -> str | None:
        """What the share of examples with every answer correct is called; None where it is no
        measure of its own, as answers are numbers, or one to an example."""
        if self.task.continuous or int(self.mask.sum(1).max()) < 2:
            return None
        return "sequences wholly correct" if self.task.shape is None else "boards solved"

    @property
    def solved(self) -> Bool[Tensor, "iteration example"]:
        """Whether every answer of an example is correct; true where there is none to give."""
        return ((self.correctness >= 1) | ~self.mask).all(2)

    def row(self, k: int) -> int:
        """The row of k iterations, or of the most that are no more."""
        return max((i for i, one in enumerate(self.iterations) if one <= k), default=0)

    def mean(self, examples: Bool[Tensor, " example"] | None = None) -> ScoreBand:
        """The mean over all answers of some examples, with its interval over examples.

        Arguments:
            examples: which; None for all.
        """
        mask = self.mask if examples is None else self.mask & examples[:, None]
        return score_band(self.correctness, mask)

    def whole(self) -> ScoreBand:
        """The share of examples with every answer correct, with its interval."""
        return score_band(self.solved.float()[..., None], self.mask.any(1, keepdim=True))


def score_of(run: Run) -> RunScore | None:
    """The score of a run's own examples, which the run remembers; None where it has no labels, or
    can't be read out."""
    try:
        _ = run.model if run.has_model else None  # refuses weights that have changed
    except LoopscopeError:
        return _score(run)
    return run.memory.once(("score", task_key(run)), lambda: _score(run))


def _score(run: Run) -> RunScore | None:
    task, labels = task_of(run), labels_of(run)
    if task is None or labels is None or not bool(labels.mask.any()):
        return None
    values = []
    try:
        for k in run.states.iterations:
            logits = run.logits[k]
            if not isinstance(logits, Tensor) or logits.shape[:2] != labels.mask.shape:
                return None
            values.append(task.correctness(logits.detach().cpu(), labels.targets))
    except LoopscopeError:  # no model, or states kept in part
        return None
    correctness = torch.stack(values).float().masked_fill(~labels.mask, torch.nan)
    return RunScore(task, tuple(run.states.iterations), correctness, labels.mask, labels.difficulty)
