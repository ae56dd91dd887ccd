"""The measurement: overthinking of a run. See the package for the question and its references."""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.common.errors import LoopscopeError, LoopscopeWarning
from loopscope.common.result import AnalysisResult, Verdict
from loopscope.common.text import number, percent
from loopscope.core.looped_model import Looped
from loopscope.maths.output_signals import margin
from loopscope.recorder.labels import labels_of, task_of
from loopscope.recorder.resume_run import resume
from loopscope.runs.run import Run

STRETCH, MOST, SIGNIFICANT, FEWEST = 3, 96, 0.01, 3


class Thinking(Verdict):
    """What more iterations do to answers."""

    worse = "More iterations make answers worse: fewer are right at the end than at the best iteration."
    worse_in_part = "More iterations make answers worse at some difficulties, though not over all."
    improves = "Iterations beyond the model's own depth still make answers better."
    steady = "More iterations make answers neither better nor worse."


@dataclass(frozen=True)
class Change:
    """Answers at two iterations, the same ones."""

    before: float
    """The first of them, k*; where the two halves differ, their mean."""
    first: float
    """Accuracy there."""
    last: float
    """Accuracy at the end."""
    lost: int
    """Items right before and wrong at the end."""
    gained: int
    """The other way round."""
    p: float
    """Of the sign test over examples that fewer are right at the end."""


@dataclass(frozen=True)
class Overthinking(AnalysisResult):
    """Answers over more iterations than the model is made for."""

    verdict: Thinking
    depth: int
    """The model's own."""
    shown: int
    """Iterations of the original run."""
    accuracy: Float[Tensor, " iteration"]
    """After k = 0..n iterations."""
    margin: Float[Tensor, " iteration"]
    """Mean logit margin after k = 0..n."""
    to_wrong: Int[Tensor, " turn"]
    """Answers right after t iterations and wrong after t+1."""
    to_right: Int[Tensor, " turn"]
    flips: Int[Tensor, " turn"]
    """Answers that change, whether right or wrong."""
    late_flips: int
    """Those from the model's own depth on."""
    items: int
    examples: int
    drop: Change
    """From the best iteration to the end."""
    growth: Change
    """From the model's own depth to the end; p that more are right at the end."""
    difficulty: str
    levels: Float[Tensor, " level"]
    by_level: Float[Tensor, "level iteration"]
    """Accuracy of the examples of each difficulty."""
    margin_by_level: Float[Tensor, "level iteration"]
    drops: tuple[Change, ...]
    """At each difficulty; p is multiplied by their number."""
    how: str
    significance_threshold: float = SIGNIFICANT
    """A p below it counts."""

    def summary(self) -> str:
        d, best = self.drop, self.margin[1:].argmax().item() + 1
        worse = [
            f"{level:g} ({percent(one.first)} to {percent(one.last)}, p = {number(one.p, 2)})"
            for level, one in zip(self.levels.tolist(), self.drops, strict=True)
            if one.p < self.significance_threshold
        ]
        where = f" It gets worse where {self.difficulty} is {'; '.join(worse)}." if worse else ""
        return (
            f"{self.verdict.sentence} {self.how} Of {self.items} answers ({self.examples} examples) "
            f"{percent(d.first)} are right at the best iteration ({d.before:g}, chosen on the other half) "
            f"and {percent(d.last)} at the end: {d.lost} are lost and {d.gained} gained, p = "
            f"{number(d.p, 2)} that this is chance.{where} From the model's own depth ({self.depth}) to the "
            f"end {self.growth.gained} are gained and {self.growth.lost} lost, p = "
            f"{number(self.growth.p, 2)}; {self.late_flips} answers flip there. Over all iterations "
            f"{int(self.to_wrong[1:].sum())} turn from right to wrong and {int(self.to_right[1:].sum())} "
            f"from wrong to right. The logit margin is largest at iteration {best}. Threshold: p below "
            f"{self.significance_threshold:g}."
        )


def applies(run: Run) -> bool:
    """Whether the run's answers are known and can be read out, and it can be gone on with."""
    task = task_of(run)
    if task is None or task.continuous or run.iterations < FEWEST or labels_of(run) is None:
        return False
    try:
        return isinstance(run.model, Looped) and run.origin.get("whole", True)
    except LoopscopeError:
        return False


def measure(run: Run, *, iterations: int | None = None) -> Overthinking:
    """What iterations beyond the model's own depth do to its answers.

    Arguments:
        iterations: to which the run is continued; None: STRETCH times the model's own depth, at
            most MOST more than that.
    """
    run.require_finite()
    if not applies(run):
        raise LoopscopeError(
            f"overthinking needs a run of {FEWEST} iterations or more on examples of its model's task, "
            f"whose answers can be read out, but got {run!r}. Record model.task.batch(256, seed=0).tokens."
        )
    labels, task, depth = labels_of(run), task_of(run), run.model.iterations
    assert labels is not None and task is not None
    goal = min(STRETCH * depth, depth + MOST) if iterations is None else iterations
    run, shown, how = _onward(run, goal)
    mask, targets, n = labels.mask, labels.targets, run.iterations
    said, right, margins = [], [], []
    with torch.no_grad():
        for k in range(n + 1):
            logits = run.logits[k].cpu()
            said.append(task.answer(logits)[mask])
            right.append(task.correctness(logits, targets)[mask] >= 1)
            margins.append(margin(logits[mask].double(), targets[mask]))
    right, margins, said = torch.stack(right), torch.stack(margins), torch.stack(said)
    example = torch.arange(len(mask))[:, None].expand_as(mask)[mask]
    flips = (said[1:] != said[:-1]).sum(1)
    own = min(depth, n)
    drop = _drop(right, example)
    growth = _change(right[own], right[n], example, float(own), better=True)
    levels = labels.difficulty.unique()
    places = [(labels.difficulty == level)[example] for level in levels]
    drops = tuple(_drop(right[:, place], example[place], times=len(levels)) for place in places)
    return Overthinking(
        verdict=_verdict(drop, growth, drops),
        depth=depth,
        shown=shown,
        accuracy=right.double().mean(1),
        margin=margins.mean(1),
        to_wrong=(right[:-1] & ~right[1:]).sum(1),
        to_right=(~right[:-1] & right[1:]).sum(1),
        flips=flips,
        late_flips=int(flips[own:].sum()),
        items=right.shape[1],
        examples=len(mask),
        drop=drop,
        growth=growth,
        difficulty=task.difficulty_unit,
        levels=levels,
        by_level=torch.stack([right[:, place].double().mean(1) for place in places]),
        margin_by_level=torch.stack([margins[:, place].mean(1) for place in places]),
        drops=drops,
        how=how,
    )


def _onward(run: Run, goal: int) -> tuple[Run, int, str]:
    """The run to `goal` iterations, those it had, and where they come from."""
    shown = run.iterations
    if shown >= goal:
        return run, shown, f"All {shown} iterations are the run's own."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoopscopeWarning)
        later = resume(run.model, run, goal)
    later.require_finite()
    if later.iterations < goal:
        return later, shown, f"After {later.iterations} iterations the loop ends by itself, with its answers."
    how = f"The run of {shown} iterations was continued to {goal}."
    return later, shown, how + (" Its edits were not made again there." if run.origin.get("edits") else "")


def _drop(right: Bool[Tensor, "iteration item"], example: Int[Tensor, " item"], times: int = 1) -> Change:
    """From the best iteration to the end, each half of the examples at the one that the other
    chose."""
    numbers = example.unique()
    second = torch.isin(
        example, numbers[1::2]
    )  # alternately, so that both halves hold all that a batch is ordered by
    before, best = torch.zeros_like(right[0]), []
    for half in (second, ~second):
        told = right[:, ~half] if bool((~half).any()) else right
        hits = told.sum(1)[1:]
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
) -> Change:
    """Two readings of the same items, with a sign test over examples, in one direction."""
    from scipy.stats import binomtest

    more = torch.zeros(int(example.max()) + 1).index_add(0, example, last.float() - before.float())
    fewer, most = int((more < 0).sum()), int((more > 0).sum())
    hits = most if better else fewer
    p = binomtest(hits, fewer + most, 0.5, "greater").pvalue if fewer + most else 1.0
    return Change(
        before=k,
        first=float(before.double().mean()),
        last=float(last.double().mean()),
        lost=int((before & ~last).sum()),
        gained=int((~before & last).sum()),
        p=min(1.0, times * float(p)),
    )


def _verdict(drop: Change, growth: Change, drops: tuple[Change, ...]) -> Thinking:
    if drop.p < SIGNIFICANT:
        return Thinking.worse
    if any(one.p < SIGNIFICANT for one in drops):
        return Thinking.worse_in_part
    return Thinking.improves if growth.p < SIGNIFICANT else Thinking.steady
