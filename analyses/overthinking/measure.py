"""Accuracy, logit margin and flips beyond the model's own depth, the change of accuracy there, and
the verdict."""

import math
import warnings
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.arguments import PositiveCount
from loopscope.common.errors import LoopscopeError, LoopscopeWarning
from loopscope.common.evidence import Estimate, Evidence, by_bootstrap
from loopscope.core.looped_model import Looped
from loopscope.maths.output_signals import margin
from loopscope.recorder.labels import labels_of, task_of
from loopscope.recorder.resume_run import resume
from loopscope.runs.run import Run
from loopscope.tasks import Batch, Task

from .accuracy_change import MIN_EXAMPLES, AccuracyChange, change_of, change_since_best, sum_by_example
from .result import MARGIN, OverthinkingResult, OverthinkingVerdict

STRETCH, MAX_EXTRA, MIN_ITERATIONS = 3, 96, 3


def applies(run: Run) -> bool:
    """Whether the run's right answers are known, and it can be read out and continued."""
    task = task_of(run)
    if task is None or task.continuous or run.iterations < MIN_ITERATIONS or labels_of(run) is None:
        return False
    try:
        return isinstance(run.model, Looped) and run.origin.get("whole", True)
    except LoopscopeError:
        return False


# It is long because the fields of its result are many.
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
    if goal <= depth:
        raise LoopscopeError(
            f"iterations must be larger than the model's own depth, {depth}, to say what more of them do, "
            f"but is {goal}. Pass more, or None for {STRETCH} times the depth."
        )
    recorded = run.iterations
    run, how = _continue(run, goal)
    items = _read_items(run, labels, task)
    right, n = items.right, run.iterations
    own_depth = min(depth, n)
    flips = (items.answers[1:] != items.answers[:-1]).sum(1)
    drop = change_since_best(right, items.example)
    growth = change_of(right[own_depth], right[n], items.example, float(own_depth))
    levels = labels.difficulty.unique()
    masks = [(labels.difficulty == level)[items.example] for level in levels]
    growths = tuple(
        change_of(
            right[own_depth][mask], right[n][mask], items.example[mask], float(own_depth), times=len(levels)
        )
        for mask in masks
    )
    verdict, evidence = _decide(growth, drop, growths, right[[own_depth, n]], items.example, n <= depth)
    return OverthinkingResult(
        verdict=verdict,
        evidence=evidence,
        depth=depth,
        recorded=recorded,
        accuracy=right.double().mean(1),
        margin=items.margin.mean(1),
        to_wrong=(right[:-1] & ~right[1:]).sum(1),
        to_right=(~right[:-1] & right[1:]).sum(1),
        flips=flips,
        late_flips=int(flips[own_depth:].sum()),
        items=right.shape[1],
        examples=len(items.example.unique()),
        growth=growth,
        drop=drop,
        difficulty=task.difficulty_unit,
        levels=levels,
        by_level=torch.stack([right[:, mask].double().mean(1) for mask in masks]),
        margin_by_level=torch.stack([items.margin[:, mask].mean(1) for mask in masks]),
        growths=growths,
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


def _decide(
    growth: AccuracyChange,
    drop: AccuracyChange,
    growths: tuple[AccuracyChange, ...],
    right: Bool[Tensor, "2 item"],
    example: Int[Tensor, " item"],
    ended: bool,
) -> tuple[OverthinkingVerdict, Evidence]:
    """The verdict and its evidence.

    Arguments:
        right: at the model's own depth and at the end.
        ended: whether the loop ended by itself, without an iteration beyond the model's own depth.
    """
    more = sum_by_example(right[1].double() - right[0].double(), example)
    items = sum_by_example(torch.ones_like(right[0]), example)

    def verdict_of(draw: Int[Tensor, " example"]) -> OverthinkingVerdict:
        return verdict_on(float(more[draw].sum() / items[draw].sum()))

    verdict, evidence = by_bootstrap(
        verdict_of, len(more), unclear=OverthinkingVerdict.unclear, least=MIN_EXAMPLES
    )
    estimates = (
        Estimate("change of accuracy beyond the model's own depth", growth.change, growth.low, growth.high),
        Estimate("change of accuracy since the best iteration", drop.change, drop.low, drop.high),
        growth.changed,
    )
    if ended:
        verdict = OverthinkingVerdict.ended
        return verdict, Evidence(
            len(more), {verdict.name: 1.0}, "The loop ended by itself.", estimates=estimates
        )
    if verdict in (OverthinkingVerdict.steady, OverthinkingVerdict.improves):
        if any(change.high < -MARGIN for change in growths):
            verdict = OverthinkingVerdict.worse_in_part
        elif verdict is OverthinkingVerdict.steady and drop.high < -MARGIN:
            verdict = OverthinkingVerdict.peaked
    if verdict.name not in evidence.support and verdict is not OverthinkingVerdict.unclear:
        how = "The interval of this change of accuracy lies below the margin."
        evidence = Evidence(len(more), {verdict.name: 1.0}, how)
    return verdict, replace(evidence, estimates=estimates)


def verdict_on(change: float) -> OverthinkingVerdict:
    """The verdict for a change of accuracy beyond the model's own depth; unclear for NaN."""
    if math.isnan(change):
        return OverthinkingVerdict.unclear
    if abs(change) < MARGIN:
        return OverthinkingVerdict.steady
    return OverthinkingVerdict.improves if change > 0 else OverthinkingVerdict.worse
