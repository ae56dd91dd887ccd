"""One fact of a task, read off the states by iteration, with what its reading has to be held
against."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.text import number, percent
from ..runs.run import Run
from ..tasks import Fact, Task
from .probes import Probes
from .task_facts import placed

SHARE = 0.9
"""A fact has formed when its score has come so far from the floor to the best."""


@dataclass(frozen=True)
class Read:
    """One fact, by iteration."""

    about: str
    kind: str
    """classes (scores are accuracies) or numbers (R²)."""
    iterations: tuple[int, ...]
    score: Float[Tensor, " iteration"]
    low: Float[Tensor, " iteration"]
    high: Float[Tensor, " iteration"]
    control: Float[Tensor, " iteration"]
    random: Float[Tensor, " iteration"]
    baseline: Float[Tensor, " iteration"]
    """From the answer and what is given alone, for a step on the way; else NaN."""
    majority: Float[Tensor, " iteration"]
    floor: Float[Tensor, " iteration"]
    """The best of these four."""
    learned: tuple[int, ...]
    """The iterations at which the lower end of the interval is above it."""
    formed: int | None
    rows: int
    on_the_way: bool

    def told(self, name: str) -> str:
        """A sentence."""
        k, shown = int(self.score.nan_to_num(-9).argmax()), _shown(self.kind)
        best, low, high, control, random, majority, baseline_labels = (
            shown(float(one[k]))
            for one in (
                self.score,
                self.low,
                self.high,
                self.control,
                self.random,
                self.majority,
                self.baseline,
            )
        )
        told = "" if self.baseline[k].isnan() else f", the answer and what is given alone {baseline_labels}"
        drawn = "" if self.random[k].isnan() else f", random features {random}"
        often = "" if self.kind == "numbers" else f", the most frequent {majority}"
        when = (
            f"above all of these at {len(self.learned)} of {len(self.iterations)} iterations, formed after "
            f"{self.formed}"
            if self.learned
            else "nowhere above all of these"
        )
        return (
            f"{name.capitalize()} ({self.about}; {self.rows} rows): "
            f"{trail(self.score, self.iterations, self.kind)}; best after {self.iterations[k]}, {best} "
            f"({low} to {high}), where shuffled labels give {control}{drawn}{often}{told}; {when}."
        )


def read_fact(
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
) -> tuple[Read, Probes]:
    """Probes of one fact, positions together, at most `most` rows."""
    facts = task.facts(run.tokens.cpu())
    fact, asked = facts[name], task.mask(run.tokens.cpu())
    baseline_labels = None
    if fact.is_intermediate and not task.continuous:
        known = [f for n, f in facts.items() if n == "answer" or (f.in_input and f.values.ndim == 1)]
        baseline_labels = [_at_asked(one, asked) for one in known]
    values, mask = placed(fact, asked)
    probes = Probes.fit(
        run, values, mask=_thinned(mask, most, seed), sites=site, iterations=iterations, positions="shared",
        baseline_labels=baseline_labels, control=control, seed=seed, random=random,
    )  # fmt: skip
    return _read(probes, fact), probes


def trail(values: Tensor, iterations: tuple[int, ...], kind: str) -> str:
    """A curve in words: four of its points."""
    shown = _shown(kind)
    places = sorted({0, len(values) // 4, len(values) // 2, len(values) - 1})
    return ", ".join(f"{shown(float(values[i]))} after {iterations[i]}" for i in places)


def _read(probes: Probes, fact: Fact) -> Read:
    names = ("score", "low", "high", "control", "random", "baseline", "majority", "floor")
    grids = {name: getattr(probes, name)[0, :, 0] for name in names}
    learned, score, floor, formed = probes.learned[0, :, 0], grids["score"], grids["floor"], None
    if bool(learned.any()):
        ready = learned & (score >= floor + SHARE * (score[learned].max() - floor))
        formed = next((k for k, ok in zip(probes.iterations, ready.tolist(), strict=True) if ok), None)
    return Read(
        about=fact.description,
        kind=probes.kind,
        iterations=probes.iterations,
        **grids,
        learned=tuple(k for k, ok in zip(probes.iterations, learned.tolist(), strict=True) if ok),
        formed=formed,
        rows=int(probes.rows.max()),
        on_the_way=fact.is_intermediate,
    )


def _at_asked(fact: Fact, asked: Tensor) -> Tensor:
    """A fact as one label for each position; of a fact of positions, where one position is asked,
    the one there."""
    if fact.values.ndim == 1:
        return fact.values[:, None].expand(asked.shape)
    if int(asked.sum(1).max()) > 1:
        return fact.values
    return fact.values.gather(1, asked.int().argmax(1, keepdim=True)).expand(asked.shape)


def _thinned(mask: Tensor, most: int, seed: int) -> Tensor:
    """At most about so many of the rows."""
    if int(mask.sum()) <= most:
        return mask
    drawn = torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed))
    return mask & (drawn < most / int(mask.sum()))


def _shown(kind: str):
    return percent if kind == "classes" else lambda value: number(value, 2)
