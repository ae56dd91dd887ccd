"""Accuracy, logit margin and flips beyond the model's own depth, the change of accuracy there, and
the verdict."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.arguments import PositiveCount
from loopscope.common.errors import LoopscopeError
from loopscope.common.evidence import Estimate, Evidence, by_bootstrap
from loopscope.common.text import plural
from loopscope.core.looped_model import Looped
from loopscope.maths.output_signals import margin
from loopscope.recorder.continued_run import continued_run
from loopscope.recorder.labels import labels_of, task_of
from loopscope.recorder.run_score import score_of
from loopscope.runs.run import Run
from loopscope.tasks import Batch, Task

from .accuracy_change import MIN_EXAMPLES, AccuracyChange, best_before, change_of, points, sum_by_example
from .result import LIMIT, MARGIN, OverthinkingResult, OverthinkingVerdict

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
    goal = goal_of(run, iterations)
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
    best, best_at = best_before(right, items.example)
    drop = change_of(best, right[n], items.example, best_at)
    growth = change_of(right[own_depth], right[n], items.example, (own_depth,))
    levels = labels.difficulty.unique()
    masks = [(labels.difficulty == level)[items.example] for level in levels]
    growths = tuple(
        change_of(
            right[own_depth][mask], right[n][mask], items.example[mask], (own_depth,), times=len(levels)
        )
        for mask in masks
    )
    gains = [
        _gain(right[own_depth], right[n], items.example, mask)
        for mask in (
            torch.ones_like(best),
            *(mask for mask, g in zip(masks, growths, strict=True) if falls(g)),
        )
    ]
    since_best = _gain(best, right[n], items.example, torch.ones_like(best))
    estimates = _since_best(drop, n)
    verdict, evidence = (
        _decide(gains, since_best, growth, estimates)
        if n > depth
        else _ended(len(since_best.more), estimates)
    )
    return OverthinkingResult(
        verdict=verdict,
        evidence=evidence,
        depth=depth,
        recorded=recorded,
        accuracy=items.accuracy,
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


def goal_of(run: Run, iterations: int | None) -> int:
    """The iterations to which a run is continued."""
    depth = run.model.iterations
    return min(STRETCH * depth, depth + MAX_EXTRA) if iterations is None else iterations


class _Items(NamedTuple):
    """The answered positions of all examples, after k = 0..n iterations."""

    answers: Tensor
    """(iteration, item), and what an answer is for the task."""
    right: Bool[Tensor, "iteration item"]
    accuracy: Float[Tensor, " iteration"]
    margin: Float[Tensor, "iteration item"]
    """Logit margin of the right answer."""
    example: Int[Tensor, " item"]


def _read_items(run: Run, labels: Batch, task: Task) -> _Items:
    mask, targets = labels.mask, labels.targets
    answers, margins = [], []
    with torch.no_grad():
        score = score_of(run)  # the accuracy that a page quotes
        for k in range(run.iterations + 1):
            logits = run.logits[k].cpu()
            answers.append(task.answer(logits)[mask])
            margins.append(margin(logits[mask].double(), targets[mask]))
    if score is None:
        raise LoopscopeError(f"overthinking needs a run whose answers can be scored, but got {run!r}.")
    example = torch.arange(len(mask))[:, None].expand_as(mask)[mask]
    right, accuracy = score.correctness[:, mask] >= 1, score.mean().value
    return _Items(torch.stack(answers), right, accuracy, torch.stack(margins), example)


def _continue(run: Run, goal: int) -> tuple[Run, str]:
    """The run continued to `goal` iterations, and how."""
    recorded = run.iterations
    if recorded >= goal:
        return run, f"All {recorded} iterations are the run's own."
    longer = continued_run(run, goal)
    longer.require_finite()
    if longer.iterations < goal:
        return (
            longer,
            f"The loop ends after {longer.iterations} iterations, when all positions have halted.",
        )
    how = f"The run of {recorded} iterations was continued to {goal}."
    return longer, how + (" Its edits were not applied there." if run.origin.get("edits") else "")


class _Gain(NamedTuple):
    """Right answers gained between two iterations, by example."""

    more: Float[Tensor, " example"]
    items: Float[Tensor, " example"]

    def on(self, draw: Int[Tensor, " sample"]) -> float:
        """The change of accuracy on the examples of a draw; NaN without an answer."""
        items = float(self.items[draw].sum())
        return float(self.more[draw].sum()) / items if items else math.nan


def _gain(before: Tensor, last: Tensor, example: Tensor, mask: Bool[Tensor, " item"]) -> _Gain:
    more = (last.double() - before.double()) * mask
    return _Gain(sum_by_example(more, example), sum_by_example(mask, example))


def falls(change: AccuracyChange) -> bool:
    """Whether the whole interval of a change lies below -MARGIN; False for NaN."""
    return change.high < -MARGIN


def _since_best(drop: AccuracyChange, end: int) -> tuple[Estimate, ...]:
    """The change since the best iteration; nothing where that is the end itself."""
    name = "change of accuracy since the iteration that is best on the other half of the examples"
    return () if drop.before == (end,) else (Estimate(name, drop.change, drop.low, drop.high),)


def _ended(examples: int, estimates: tuple[Estimate, ...]) -> tuple[OverthinkingVerdict, Evidence]:
    """The verdict where the loop ended by itself, with no iteration beyond the model's depth."""
    how = "The loop ended by itself for all examples of the run."
    verdict = OverthinkingVerdict.ended
    return verdict, Evidence(examples, {verdict.name: 1.0}, how, estimates=estimates)


def _decide(
    gains: Sequence[_Gain], since_best: _Gain, growth: AccuracyChange, estimates: tuple[Estimate, ...]
) -> tuple[OverthinkingVerdict, Evidence]:
    """The verdict and its evidence.

    Arguments:
        gains: beyond the model's own depth: of all answers, then of those of each difficulty at
            which accuracy falls (`falls`).
        since_best: from the best iteration to the end.
        estimates: the change since the best iteration, as a number.
    """
    whole, *parts = gains

    def verdict_of(draw: Int[Tensor, " example"]) -> OverthinkingVerdict:
        return verdict_on(whole.on(draw), since_best.on(draw), [part.on(draw) for part in parts])

    count = len(whole.more)
    verdict, evidence = by_bootstrap(
        verdict_of, count, unclear=OverthinkingVerdict.unclear, least=MIN_EXAMPLES
    )
    if verdict in (OverthinkingVerdict.steady, OverthinkingVerdict.peaked) and growth.margin >= LIMIT:
        how = (
            f"{evidence.how} But changes that none of the {plural(count, 'example')} has are possible: the "
            f"interval of the change of accuracy, {growth.text}, leaves {points(LIMIT)} points or more."
        )
        down = OverthinkingVerdict.worse if -growth.low >= growth.high else OverthinkingVerdict.improves
        evidence = replace(evidence, how=how, alternatives=(verdict, down))
        verdict = OverthinkingVerdict.unclear
    beyond = Estimate(
        "change of accuracy beyond the model's own depth", growth.change, growth.low, growth.high
    )
    return verdict, replace(evidence, estimates=(beyond, *estimates, growth.changed))


def verdict_on(change: float, since_best: float, parts: Sequence[float] = ()) -> OverthinkingVerdict:
    """The verdict on changes of accuracy; unclear for NaN.

    Arguments:
        change: beyond the model's own depth.
        since_best: from the best iteration to the end.
        parts: beyond the model's own depth, at each difficulty that is in question.
    """
    if math.isnan(change) or math.isnan(since_best):
        return OverthinkingVerdict.unclear
    if change <= -MARGIN:
        return OverthinkingVerdict.worse
    if any(part <= -MARGIN for part in parts):
        return OverthinkingVerdict.worse_in_part
    if change >= MARGIN:
        return OverthinkingVerdict.improves
    return OverthinkingVerdict.peaked if since_best <= -MARGIN else OverthinkingVerdict.steady
