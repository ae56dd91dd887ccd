"""Linear probes of one fact of a task over the iterations, with their controls."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..common.text import number, percent
from ..runs.run import Run
from ..runs.run_mask import mask_of
from ..tasks import Fact, Task
from .probes import Probes
from .task_facts import labels_at_positions

SHARE = 0.9
"""A fact has formed when its score has come this fraction of the way from the floor to the best."""


@dataclass(frozen=True)
class FactCurve:
    """Scores of the probes of one fact, by iteration."""

    description: str
    kind: str
    """classes (scores are accuracies) or numbers (R²)."""
    iterations: tuple[int, ...]
    score: Float[Tensor, " iteration"]
    low: Float[Tensor, " iteration"]
    """Lower end of the 95 % interval."""
    high: Float[Tensor, " iteration"]
    control: Float[Tensor, " iteration"]
    random: Float[Tensor, " iteration"]
    baseline: Float[Tensor, " iteration"]
    """Of an intermediate fact: the score from the answer and the facts of the input; else NaN."""
    majority: Float[Tensor, " iteration"]
    floor: Float[Tensor, " iteration"]
    """The best of control, random, baseline and majority."""
    learned: tuple[int, ...]
    """The iterations at which the lower end of the interval is above the floor."""
    formed: int | None
    """The iteration after which the fact has formed; None if it never has."""
    rows: int
    is_intermediate: bool
    """Whether it is an intermediate fact: neither in the input nor the answer."""

    def sentence(self, name: str) -> str:
        """A sentence about the fact of this name."""
        k, text = int(self.score.nan_to_num(-9).argmax()), _formatter(self.kind)
        best, low, high, control = (
            text(float(values[k])) for values in (self.score, self.low, self.high, self.control)
        )
        others = [
            ("random features", self.random, True),
            ("the most frequent", self.majority, self.kind != "numbers"),
            ("the answer and the input facts", self.baseline, True),
        ]
        controls = "".join(
            f", {label} {text(float(values[k]))}"
            for label, values, applies in others
            if applies and not bool(values[k].isnan())
        )
        when = (
            f"above all of these at {len(self.learned)} of {len(self.iterations)} iterations, formed after "
            f"{self.formed}"
            if self.learned
            else "nowhere above all of these"
        )
        return (
            f"{name.capitalize()} ({self.description}; {self.rows} rows): "
            f"{trail(self.score, self.iterations, self.kind)}; best after {self.iterations[k]}, {best} "
            f"({low} to {high}), where shuffled labels give {control}{controls}; {when}."
        )


def probe_fact(
    run: Run,
    task: Task,
    name: str,
    *,
    site: str,
    iterations: list[int],
    control: str,
    seed: int,
    most: int,
    random: Run | None = None,
) -> tuple[FactCurve, Probes]:
    """Probes of one fact, shared by all positions, on at most about `most` rows."""
    facts = task.facts(run.tokens.cpu())
    fact, answer_mask = facts[name], task.mask(run.tokens.cpu())
    baseline_labels = None
    if fact.is_intermediate and not task.continuous:
        inputs = [f for n, f in facts.items() if n == "answer" or (f.in_input and f.values.ndim == 1)]
        baseline_labels = [_per_position(one, answer_mask) for one in inputs]
    values, mask = labels_at_positions(fact, answer_mask)
    mask = mask & mask_of(run, *mask.shape)
    probes = Probes.fit(
        run, values, mask=_thinned(mask, most, seed), sites=site, iterations=iterations, positions="shared",
        baseline_labels=baseline_labels, control=control, seed=seed, random=random,
    )  # fmt: skip
    return _curve(probes, fact), probes


def trail(values: Tensor, iterations: tuple[int, ...], kind: str) -> str:
    """Four points of a curve, in words."""
    text = _formatter(kind)
    places = sorted({0, len(values) // 4, len(values) // 2, len(values) - 1})
    return ", ".join(f"{text(float(values[i]))} at k = {iterations[i]}" for i in places)


def _curve(probes: Probes, fact: Fact) -> FactCurve:
    names = ("score", "low", "high", "control", "random", "baseline", "majority", "floor")
    grids = {name: getattr(probes, name)[0, :, 0] for name in names}
    learned, score, floor, formed = probes.learned[0, :, 0], grids["score"], grids["floor"], None
    if bool(learned.any()):
        ready = learned & (score >= floor + SHARE * (score[learned].max() - floor))
        formed = next((k for k, above in zip(probes.iterations, ready.tolist(), strict=True) if above), None)
    return FactCurve(
        description=fact.description,
        kind=probes.kind,
        iterations=probes.iterations,
        **grids,
        learned=tuple(k for k, above in zip(probes.iterations, learned.tolist(), strict=True) if above),
        formed=formed,
        rows=int(probes.rows.max()),
        is_intermediate=fact.is_intermediate,
    )


def _per_position(fact: Fact, answer_mask: Bool[Tensor, "batch position"]) -> Tensor:
    """A fact as one label for each position. Of a fact of positions with one answer position it is
    the label there."""
    if fact.values.ndim == 1:
        return fact.values[:, None].expand(answer_mask.shape)
    if int(answer_mask.sum(1).max()) > 1:
        return fact.values
    return fact.values.gather(1, answer_mask.int().argmax(1, keepdim=True)).expand(answer_mask.shape)


def _thinned(mask: Tensor, most: int, seed: int) -> Tensor:
    """A random selection of at most about `most` rows."""
    if int(mask.sum()) <= most:
        return mask
    drawn = torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed))
    return mask & (drawn < most / int(mask.sum()))


def _formatter(kind: str) -> Callable[[float], str]:
    return percent if kind == "classes" else lambda value: number(value, 2)
