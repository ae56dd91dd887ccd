"""Does more iterating make answers worse?

The run is continued, unless it already goes so far, to STRETCH times the model's own depth (at most MOST iterations more), and
its answers are held against the right ones after every iteration. An item is one answered position of an example. Definitions,
for k = 1..n (what is read before the loop is no answer):

- accuracy and logit margin by iteration: the fraction of right answers; the logit of the right answer less the largest other.
  Both also by difficulty.
- flips: an answer that differs from the one an iteration before. Of them those from right to wrong and from wrong to right.
- best iteration k*: where accuracy is largest, the last of several. It is chosen on one half of the examples and used on
  the other, and the other way round, so that no example chooses what it is tested at.
- overthinking events (lost): right at k* and wrong at the end; the other way round, gained. Answers that are right by chance
  before they have formed come and go in both directions, and before k*.
- the drop: (lost - gained) / items, with a sign test over examples (McNemar's where each has one answer): of the examples whose
  number of right answers differs between k* and the end, the chance that so many have fewer, if more and fewer were equally
  likely. Exact and one-sided. The same at each difficulty, with k* chosen there, times the number of difficulties (Bonferroni).
- improvement: the same test between the model's own depth and the end, in the other direction.

Sources: margin, its peak and decline, Kohli et al. 2026 (arXiv 2604.07822); answers that get worse with more loops, Zhu et al.
2025 (arXiv 2510.25741), Bansal et al. 2022 (arXiv 2202.05826).

What can mislead:
- A verdict `steady` is no proof that nothing is lost: with few examples only large drops show. Read the events beside it.
- A loop that ends by itself because all has halted keeps its answers from there on. It can't overthink, by construction.
- Where a wrong guess is often right (a chain of hops that comes back to its start), an early answer can be right for a wrong
  reason. It counts as right here.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope import drawing
from loopscope.asked import labels_of, task_of
from loopscope.drawing import Panel, number, percent
from loopscope.driver import Looped
from loopscope.errors import LoopscopeError, LoopscopeWarning
from loopscope.finding import Finding, Verdict
from loopscope.maths.signals import margin
from loopscope.recorder import resume
from loopscope.run import Run

TITLE, PLACE = "Overthinking", 32
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
class Overthinking(Finding):
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
            f"{self.verdict.sentence} {self.how} Of {self.items} answers ({self.examples} examples) {percent(d.first)} are "
            f"right at the best iteration ({d.before:g}, chosen on the other half) and {percent(d.last)} at the end: {d.lost} "
            f"are lost and {d.gained} gained, p = {number(d.p, 2)} that this is chance.{where} From the model's own depth "
            f"({self.depth}) to the end {self.growth.gained} are gained and {self.growth.lost} lost, p = "
            f"{number(self.growth.p, 2)}; {self.late_flips} answers flip there. Over all iterations "
            f"{int(self.to_wrong[1:].sum())} turn from right to wrong and {int(self.to_right[1:].sum())} from wrong to right. "
            f"The logit margin is largest at iteration {best}. Threshold: p below {self.significance_threshold:g}."
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
        iterations: to which the run is continued; None: STRETCH times the model's own depth, at most MOST more than that.
    """
    run.require_finite()
    if not applies(run):
        raise LoopscopeError(
            f"overthinking needs a run of {FEWEST} iterations or more on examples of its model's task, whose answers can be "
            f"read out, but got {run!r}. Record model.task.batch(256, seed=0).tokens."
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
            right.append(task.right(logits, targets)[mask] >= 1)
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
        difficulty=task.difficulty,
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
    """From the best iteration to the end, each half of the examples at the one that the other chose."""
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


def headline(found: Overthinking) -> tuple[str, str]:
    """The finding as a tile: a few characters, and what they are."""
    lost = found.drop.lost
    return (
        f"{lost} of {found.items}",
        f"answers right at the best iteration are lost by the end. {found.verdict.sentence}",
    )


def draw(found: Overthinking) -> Any:
    """Accuracy by iteration, over all and at some difficulties."""
    return _curves(
        found,
        found.accuracy,
        found.by_level,
        "Accuracy, far beyond the model's own depth",
        quantity="fraction right",
    )


def _curves(found: Overthinking, whole: Tensor, by_level: Tensor, title: str, *, quantity: str) -> Any:
    figure = drawing.empty(title, "iterations run", quantity, 400)
    step = max(1, -(-(len(found.levels) - 1) // (len(drawing.COLOURS) - 2)))
    few = list(range(0, len(found.levels), step)) if len(found.levels) > 1 else []
    for place, colour in zip(few, drawing.COLOURS[1:], strict=False):
        figure.add_scatter(
            y=[round(v, 4) for v in by_level[place].tolist()], line={"color": colour, "width": 1.75},
            name=f"{drawing.label(found.difficulty)} {found.levels[place]:g}",
        )  # fmt: skip
    figure.add_scatter(
        y=[round(v, 4) for v in whole.tolist()], name="all", line={"color": drawing.BLUE, "width": 3.5}
    )
    figure.add_vline(x=found.depth, line={"color": drawing.GREY, "width": 1, "dash": "dot"})
    if quantity.startswith("fraction"):
        figure.update_yaxes(tickformat=".0%", range=[-0.03, 1.05])
    return figure


def panels(found: Overthinking) -> list[Panel]:
    """The finding as a report shows it."""
    d, best = found.drop, int(found.margin[1:].argmax()) + 1
    return [
        Panel(
            "Are answers still right if it goes on?",
            draw(found),
            f"{found.verdict.sentence} At the best iteration ({d.before:g}) {percent(d.first)} are right, at the end "
            f"{percent(d.last)}: {d.lost} lost, {d.gained} gained.",
            "The dotted line marks the model's own depth. The best iteration is chosen on one half of the examples and counted "
            "on the other.",
        ),
        Panel(
            "How clearly are they right?",
            _curves(
                found,
                found.margin,
                found.margin_by_level,
                "Logit margin of the right answer",
                quantity="logits",
            ),
            f"The margin is largest after {best} iterations ({number(float(found.margin[best]))}) and "
            f"{number(float(found.margin[-1]))} at the end.",
            "The logit of the right answer less the largest other, in the mean: above 0 where it is right. It can fall long "
            "before an answer turns.",
        ),
        Panel(
            "When do answers turn?",
            _turns(found),
            f"{int(found.to_wrong[1:].sum())} times an answer turns from right to wrong and {int(found.to_right[1:].sum())} "
            f"times back, {found.late_flips} answers flip after iteration {found.depth}.",
            "Bars count answers that change from one iteration to the next: upwards those that become right, downwards those "
            "that become wrong. While answers form some are right by chance for a while.",
        ),
    ]


def _turns(found: Overthinking) -> Any:
    figure = drawing.empty("Answers that turn", "iterations run", "answers", 340)
    k = list(range(2, len(found.to_wrong) + 1))
    for values, name, colour in (
        (found.to_right[1:], "wrong to right", drawing.GREEN),
        (-found.to_wrong[1:], "right to wrong", drawing.RED),
    ):
        figure.add_bar(x=k, y=values.tolist(), name=name, marker={"color": colour})
    figure.update_layout(barmode="relative")
    figure.add_vline(x=found.depth, line={"color": drawing.GREY, "width": 1, "dash": "dot"})
    return figure
