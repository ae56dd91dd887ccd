"""Accuracy, logit margin and flips beyond the model's own depth, answers lost after the best
iteration, and the verdict."""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.analysis_result import AnalysisResult
from loopscope.common.arguments import PositiveCount
from loopscope.common.errors import LoopscopeError, LoopscopeWarning
from loopscope.common.text import level, number, percent
from loopscope.common.verdict import UNCLEAR, Verdict
from loopscope.core.looped_model import Looped
from loopscope.maths.output_signals import margin
from loopscope.recorder.labels import labels_of, task_of
from loopscope.recorder.resume_run import resume
from loopscope.runs.run import Run
from loopscope.tasks import Batch, Task

STRETCH, MAX_EXTRA, SIGNIFICANCE, MIN_ITERATIONS = 3, 96, 0.01, 3


class OverthinkingVerdict(Verdict):
    """What more iterations do to answers."""

    worse = "More iterations make answers worse: fewer are right at the end than at the best iteration."
    worse_in_part = "More iterations make answers worse at some difficulties, though not overall."
    improves = "Iterations beyond the model's own depth still improve answers."
    steady = (
        "Accuracy neither falls significantly after its best iteration nor rises significantly beyond the "
        "model's own depth."
    )
    unclear = UNCLEAR


@dataclass(frozen=True)
class AccuracyChange:
    """The same answers at two iterations."""

    before: float
    """The first of the two iterations, k*; where the two halves differ, their mean."""
    first: float
    """Accuracy at the first."""
    last: float
    """Accuracy at the end."""
    lost: int
    """Items right before and wrong at the end."""
    gained: int
    """Items wrong before and right at the end."""
    p: float
    """p value of the sign test over examples, that fewer are right at the end."""


@dataclass(frozen=True)
class OverthinkingResult(AnalysisResult):
    """Answers beyond the model's own depth."""

    verdict: OverthinkingVerdict
    depth: int
    """The model's own number of iterations."""
    recorded: int
    """Iterations of the run before it was continued."""
    accuracy: Float[Tensor, " iteration"]
    """Fraction of right answers after k = 0..n iterations."""
    margin: Float[Tensor, " iteration"]
    """Mean logit margin after k = 0..n iterations."""
    to_wrong: Int[Tensor, " transition"]
    """Answers right after t iterations and wrong after t+1."""
    to_right: Int[Tensor, " transition"]
    """Answers wrong after t iterations and right after t+1."""
    flips: Int[Tensor, " transition"]
    """Answers that change, whether right or wrong."""
    late_flips: int
    """Flips from the model's own depth on."""
    items: int
    examples: int
    drop: AccuracyChange
    """From the best iteration to the end."""
    growth: AccuracyChange
    """From the model's own depth to the end; p that more are right at the end."""
    difficulty: str
    """What the task counts as difficulty."""
    levels: Float[Tensor, " level"]
    """The difficulties that occur, ascending."""
    by_level: Float[Tensor, "level iteration"]
    """Accuracy of the examples of each difficulty."""
    margin_by_level: Float[Tensor, "level iteration"]
    """Mean logit margin of the examples of each difficulty."""
    drops: tuple[AccuracyChange, ...]
    """At each difficulty; p is multiplied by their number."""
    how: str
    """How the run was continued."""
    significance_threshold: float = SIGNIFICANCE
    """A p value below this is significant."""

    def summary(self) -> str:
        d, best = self.drop, self.margin[1:].argmax().item() + 1
        worse = [
            f"{level(value, self.difficulty)} ({percent(change.first)} to {percent(change.last)}, p = "
            f"{number(change.p, 2)})"
            for value, change in zip(self.levels.tolist(), self.drops, strict=True)
            if change.p < self.significance_threshold
        ]
        where = f" Accuracy falls at {'; '.join(worse)}." if worse else ""
        return (
            f"{self.sentence} {self.how} Of {self.items} answers ({self.examples} examples) "
            f"{percent(d.first)} are right at the best iteration ({d.before:g}, chosen on the other half) "
            f"and {percent(d.last)} at the end: {d.lost} are lost and {d.gained} gained (sign test, p = "
            f"{number(d.p, 2)}).{where} From the model's own depth ({self.depth}) to the end "
            f"{self.growth.gained} are gained and {self.growth.lost} lost (p = {number(self.growth.p, 2)}); "
            f"{self.late_flips} answers flip there. Over all iterations {int(self.to_wrong[1:].sum())} "
            f"answers change from right to wrong and {int(self.to_right[1:].sum())} from wrong to right. The "
            f"logit margin is largest at iteration {best}. Threshold: p below "
            f"{self.significance_threshold:g}."
        )


def applies(run: Run) -> bool:
    """Whether the run's right answers are known, and it can be read out and continued."""
    task = task_of(run)
    if task is None or task.continuous or run.iterations < MIN_ITERATIONS or labels_of(run) is None:
        return False
    try:
        return isinstance(run.model, Looped) and run.origin.get("whole", True)
    except LoopscopeError:
        return False


def measure(run: Run, *, iterations: PositiveCount | None = None) -> OverthinkingResult:
    """What iterations beyond the model's own depth do to its answers.

    Arguments:
        iterations: to which the run is continued; None: STRETCH times the model's own depth, at
            most MAX_EXTRA more than that.

    Raises:
        LoopscopeError: the run is too short, its right answers are unknown, or it can't be read
            out.
    """
    run.require_finite()
    if not applies(run):
        raise LoopscopeError(
            f"overthinking needs a run of {MIN_ITERATIONS} iterations or more on examples of its model's "
            "task, whose answers can be read out, but got "
            f"{run!r}. Record model.task.batch(256, seed=0).tokens."
        )
    labels, task, depth = labels_of(run), task_of(run), run.model.iterations
    assert labels is not None and task is not None
    goal = min(STRETCH * depth, depth + MAX_EXTRA) if iterations is None else iterations
    recorded = run.iterations
    run, how = _continue(run, goal)
    items = _read_items(run, labels, task)
    right, n = items.right, run.iterations
    own_depth = min(depth, n)
    flips = (items.answers[1:] != items.answers[:-1]).sum(1)
    drop = _drop(right, items.example)
    growth = _change(right[own_depth], right[n], items.example, float(own_depth), better=True)
    levels = labels.difficulty.unique()
    masks = [(labels.difficulty == level)[items.example] for level in levels]
    drops = tuple(_drop(right[:, mask], items.example[mask], times=len(levels)) for mask in masks)
    return OverthinkingResult(
        verdict=_verdict(drop, growth, drops),
        depth=depth,
        recorded=recorded,
        accuracy=right.double().mean(1),
        margin=items.margin.mean(1),
        to_wrong=(right[:-1] & ~right[1:]).sum(1),
        to_right=(~right[:-1] & right[1:]).sum(1),
        flips=flips,
        late_flips=int(flips[own_depth:].sum()),
        items=right.shape[1],
        examples=len(labels.mask),
        drop=drop,
        growth=growth,
        difficulty=task.difficulty_unit,
        levels=levels,
        by_level=torch.stack([right[:, mask].double().mean(1) for mask in masks]),
        margin_by_level=torch.stack([items.margin[:, mask].mean(1) for mask in masks]),
        drops=drops,
        how=how,
    )


class _Items(NamedTuple):
    """The answered positions of all examples, after k = 0..n iterations."""

    answers: Tensor
    """(iteration, item), and what an answer is for the task."""
    right: Bool[Tensor, "iteration item"]
    margin: Float[Tensor, "iteration item"]
    """Logit margin of the right answer."""
    example: Int[Tensor, " item"]


def _read_items(run: Run, labels: Batch, task: Task) -> _Items:
    mask, targets = labels.mask, labels.targets
    answers, right, margins = [], [], []
    with torch.no_grad():
        for k in range(run.iterations + 1):
            logits = run.logits[k].cpu()
            answers.append(task.answer(logits)[mask])
            right.append(task.correctness(logits, targets)[mask] >= 1)
            margins.append(margin(logits[mask].double(), targets[mask]))
    example = torch.arange(len(mask))[:, None].expand_as(mask)[mask]
    return _Items(torch.stack(answers), torch.stack(right), torch.stack(margins), example)


def _continue(run: Run, goal: int) -> tuple[Run, str]:
    """The run continued to `goal` iterations, and how."""
    recorded = run.iterations
    if recorded >= goal:
        return run, f"All {recorded} iterations are the run's own."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoopscopeWarning)
        longer = resume(run.model, run, goal)
    longer.require_finite()
    if longer.iterations < goal:
        return (
            longer,
            f"The loop ends after {longer.iterations} iterations, when all positions have halted.",
        )
    how = f"The run of {recorded} iterations was continued to {goal}."
    return longer, how + (" Its edits were not applied there." if run.origin.get("edits") else "")


def _drop(
    right: Bool[Tensor, "iteration item"], example: Int[Tensor, " item"], times: int = 1
) -> AccuracyChange:
    """The change from the best iteration to the end; each half of the examples at the iteration
    that is best on the other half."""
    # Alternating examples, as a batch may be sorted.
    second = torch.isin(example, example.unique()[1::2])
    before, best = torch.zeros_like(right[0]), []
    for half in (second, ~second):
        others = right[:, ~half] if bool((~half).any()) else right
        hits = others.sum(1)[1:]
        k = 1 + int((hits == hits.max()).nonzero()[-1, 0])
        before = torch.where(half, right[k], before)
        best.append(k)
    return _change(before, right[-1], example, sum(best) / 2, times=times)


def _change(
    before: Bool[Tensor, " item"],
    last: Bool[Tensor, " item"],
    example: Tensor,
    k: float,
    *,
    better: bool = False,
    times: int = 1,
) -> AccuracyChange:
    """The change of the same items between two iterations, with a one-sided sign test over
    examples, multiplied by `times`."""
    from scipy.stats import binomtest

    more = torch.zeros(int(example.max()) + 1).index_add(0, example, last.float() - before.float())
    fewer, most = int((more < 0).sum()), int((more > 0).sum())
    hits = most if better else fewer
    p = binomtest(hits, fewer + most, 0.5, "greater").pvalue if fewer + most else 1.0
    return AccuracyChange(
        before=k,
        first=float(before.double().mean()),
        last=float(last.double().mean()),
        lost=int((before & ~last).sum()),
        gained=int((~before & last).sum()),
        p=min(1.0, times * float(p)),
    )


def _verdict(
    drop: AccuracyChange, growth: AccuracyChange, drops: tuple[AccuracyChange, ...]
) -> OverthinkingVerdict:
    if drop.p < SIGNIFICANCE:
        return OverthinkingVerdict.worse
    if any(change.p < SIGNIFICANCE for change in drops):
        return OverthinkingVerdict.worse_in_part
    return OverthinkingVerdict.improves if growth.p < SIGNIFICANCE else OverthinkingVerdict.steady
