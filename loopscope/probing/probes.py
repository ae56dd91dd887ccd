"""Probes: what can be read off the states of a loop by a linear map, and how much of that is the
probe's own doing."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array
from torch import Tensor

from ..common.errors import LoopscopeError
from ..recorder.labels import task_of
from ..runs.run import Run
from . import labels as told
from .assemble import collected, of_positions, one_hot, units_of
from .fit_grid import Plan, fit
from .folds import Folding, folding, identities
from .inputs import gathered
from .random_features import Features, random_source
from .result import PLAIN, Probe, _index
from .sources import ArraySource, Source
from .task_facts import named

CONTROLS = 3


@dataclass(frozen=True)
class Probes:
    """Probes of every site, iteration and position, with what has to stand beside their scores.

    >>> probes = ls.Probes.fit(run, labels)
    >>> print(probes), probes.figure()
    >>> probes.score[0, 3]                # of the first site after 3 iterations: (position)
    >>> probes.at(3).predict(run.states[3])

    Classes are told apart by linear discriminant analysis with OAS shrinkage, numbers by ridge
    regression whose penalty is chosen inside the training folds; features are standardised there
    too. See `linear` for why. All numbers are of groups of examples that were held out. A probe
    that could not be trained, because its position has too few labels or all alike, is NaN.
    """

    kind: told.Kind
    sites: tuple[str, ...]
    iterations: tuple[int, ...]
    positions: tuple[int | str, ...]
    """Positions, or "shared" (each position a row of one probe), or "pooled" (the mean over
    positions)."""
    score: Float[Tensor, "site iteration position"]
    """Accuracy; R² for numbers."""
    low: Float[Tensor, "site iteration position"]
    """Lower end of the 95 % interval: over groups, not over rows. What another training set would
    change is not in it."""
    high: Float[Tensor, "site iteration position"]
    control: Float[Tensor, "site iteration position"]
    """With labels shuffled between examples, or drawn by token type (Hewitt & Liang 2019); the mean
    of several such."""
    random: Float[Tensor, "site iteration position"]
    """With random features in place of the states: see `features`."""
    baseline: Float[Tensor, "site iteration position"]
    """From the labels that were told beside alone; NaN if there were none."""
    majority: Float[Tensor, "site iteration position"]
    """Of always saying what is most frequent; 0 for numbers, whose mean has R² 0."""
    rows: Int[Tensor, "site iteration position"]
    classes: tuple[Any, ...]
    groups: int
    """Of examples: whatever must stay on one side of a split is one."""
    folds: int
    seed: int
    features: str
    """What the random features are."""
    notes: tuple[str, ...]
    origin: Mapping[str, Any] = field(repr=False)
    identity: Int[Tensor, " batch"] = field(repr=False)
    """A hash of each example's input, so that a transfer never tests on what was trained on."""
    fold: Int[Tensor, " batch"] = field(repr=False)
    labels: Tensor = field(repr=False)
    """(batch) or (batch, position): class numbers, or numbers."""
    mask: Bool[Tensor, "..."] = field(repr=False)
    weights: Mapping[tuple[int, int, int], Float[Tensor, "fold width column"]] = field(repr=False)
    """By (site, iteration, position) in this object's order: trained without each fold; the last on
    all."""
    biases: Mapping[tuple[int, int, int], Float[Tensor, "fold column"]] = field(repr=False)

    @classmethod
    def fit(
        cls,
        run: Run | str | os.PathLike[str] | Iterable[Any] | Callable[[int], Any],
        labels: Any = None,
        *,
        sites: str | Sequence[str] = "state",
        iterations: Sequence[int] | None = None,
        positions: int | Sequence[int] | str | None = None,
        groups: Any = None,
        mask: Any = None,
        baseline_labels: Any = None,
        kind: told.Kind | None = None,
        folds: Any = 5,
        controls: int = CONTROLS,
        control: str = "shuffled",
        random: Features | Run | bool | None = None,
        estimator: Any = None,
        seed: int = 0,
        model: Any = None,
    ) -> "Probes":
        """Train one probe for each site, iteration and position.

        Arguments:
            run: a run; the path of a run's file, which is read piece by piece; or, for more than
                fits into memory, a list of (run, labels) or a function that makes number
                i = 0, 1, ... of them again, and None after the last.
            labels: (batch) or (batch, position). Whole numbers, bools and words are classes, real
                numbers are numbers. Or the name of a fact of the run's task, such as "answer".
            sites: recorded sites. All must have as many positions.
            iterations: None: all.
            positions: numbers; "each": one probe for each; "shared": all positions of all
                examples as rows of one probe; "pooled": the mean over positions. None:
                "shared" for labels of positions, else "each".
            groups: (batch) of what must stay on one side besides equal inputs: numbers or words.
            mask: (batch) or (batch, position): where labels hold.
            baseline_labels: further labels (batch) or (batch, position), or a list of them, that are known
                anyway: how well do they alone tell the labels?
            folds: how many, or (batch) of fold numbers, which are refused if they leak.
            controls: how many times labels are shuffled.
            control: "shuffled" between examples, or "tokens": each token type gets a label.
            random: "untrained", "projection"; None: an untrained model if one can be built; False:
                none; or a run of the same examples and sites by another model.
            estimator: a scikit-learn estimator in place of the closed forms, standardised. To
                choose among settings pass one that does so inside. Its probes are not kept.
            model: what made a run that was loaded from a file.

        Raises:
            LoopscopeError: labels that don't fit, a split that leaks, too few groups.
        """
        sites = (sites,) if isinstance(sites, str) else tuple(sites)
        source, given, given_mask = gathered(run, labels, mask, sites, iterations=iterations, model=model)
        checked = _labels(source, given, given_mask, kind)
        units = units_of(positions, checked, _position_count(source))
        split = _split(source, checked, groups=groups, folds=folds, seed=seed)
        other = _control_labels(source, checked, split, control, count=controls, seed=seed)
        plan = Plan(checked, other, split, units, estimator, seed)
        return cls(**_fitted(source, sites, plan, baseline_labels=baseline_labels, random=random))

    def at(self, iteration: int, site: str | None = None, position: int | str | None = None) -> Probe:
        """One probe, trained on all examples.

        Arguments:
            iteration: k for the state, t for a site inside the loop; negative counts from the end.
            site, position: needed where there are several.
        """
        place = self._place(iteration, site, position)
        if place not in self.weights:
            raise LoopscopeError(
                "this probe was not kept: it could not be trained, or an estimator made it. Fit without "
                "estimator=."
            )
        return Probe(self.weights[place][-1], self.biases[place][-1], self.classes)

    @property
    def selectivity(self) -> Float[Tensor, "site iteration position"]:
        """Score less that with control labels (Hewitt & Liang 2019, arXiv 1909.03368)."""
        return self.score - self.control

    @property
    def accuracy(self) -> Float[Tensor, "site iteration position"]:
        """The score, of classes."""
        if self.kind != "classes":
            raise LoopscopeError("numbers have no accuracy, but R²: read .score.")
        return self.score

    @property
    def chance(self) -> float:
        """Of guessing evenly among the classes; 0 for numbers."""
        return 1 / len(self.classes) if self.kind == "classes" else 0.0

    @property
    def floor(self) -> Float[Tensor, "site iteration position"]:
        """The best of what is had without the states: control, random features, majority, and what
        was told beside."""
        nothing = torch.tensor(-torch.inf, dtype=self.score.dtype)
        parts = [self.control, self.random, self.baseline, self.majority]
        best = torch.stack([torch.where(part.isnan(), nothing, part) for part in parts]).amax(0)
        return torch.where(self.score.isnan(), torch.nan, best)

    @property
    def decodable(self) -> Bool[Tensor, "site iteration position"]:
        """Where the labels can be read off: even the lower end of the interval lies above control
        and majority."""
        return self.low > torch.fmax(self.control, self.majority)

    @property
    def learned(self) -> Bool[Tensor, "site iteration position"]:
        """Where they are there through training: it lies above the whole floor, random features
        too."""
        return self.low > self.floor

    def transfer(self, run: Run | None = None, labels: Any = None, **options: Any) -> Any:
        """Train at iteration i, test at j. See `loopscope.probing.transfer`."""
        from .transfer import transfer

        return transfer(self, run, labels, **options)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything as one safetensors file with a JSON header. See `load_probes`."""
        from .storage import save

        return save(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Probes":
        """Read what `save` wrote."""
        from .storage import load_probes

        return load_probes(path)

    def figure(self, site: str | None = None) -> Any:
        """A map of iterations and positions, or curves over iterations where there is one
        position."""
        from .figures import curves, score_map

        return score_map(self, site) if len(self.positions) > 1 else curves(self, site)

    def to_dict(self) -> dict[str, Any]:
        """Every number, without weights and labels, as JSON can say it."""
        from ..common.to_json import to_json

        tensors = ["score", "low", "high", "control", "random", "baseline", "majority", "rows", "selectivity"]
        return {name: to_json(getattr(self, name)) for name in (*PLAIN, *tensors)} | {"summary": str(self)}

    def __str__(self) -> str:
        from .summary import summary

        return summary(self)

    def __repr__(self) -> str:
        s, k, p = self.score.shape
        shape = f"{s} site(s) · {k} iterations · {p} position(s)"
        return f"Probes of {shape} · {self.kind} · {self.groups} groups in {self.folds} folds"

    def _place(self, iteration: int, site: str | None, position: int | str | None) -> tuple[int, int, int]:
        if site is None and len(self.sites) > 1:
            raise LoopscopeError(f"there are probes of several sites: pass site=, one of {list(self.sites)}.")
        if position is None and len(self.positions) > 1:
            raise LoopscopeError("there are probes of several positions: pass position=.")
        s = _index(self.sites, next(iter(self.sites)) if site is None else site, "site")
        p = _index(self.positions, next(iter(self.positions)) if position is None else position, "position")
        k = iteration + self.iterations[-1] + 1 if iteration < 0 else iteration
        return s, _index(self.iterations, k, "iteration"), p


def _position_count(source: Source) -> int:
    if len(set(source.positions.values())) > 1:
        raise LoopscopeError(
            f"all sites must have as many positions, but have {source.positions}. Probe them one by one."
        )
    return max(source.positions.values())


def _labels(source: Source, given: Any, mask: Any, kind: told.Kind | None) -> told.Labels:
    """The labels checked, where they are the name of a fact the task's."""
    count = _position_count(source)
    if isinstance(given, str):
        given, held = named(_task(source), source.tokens, given)
        mask = held if mask is None else held & of_positions(mask, held)
    return told.labelled(given, mask=mask, kind=kind, batch=source.batch, positions=count)


def _split(source: Source, labels: told.Labels, *, groups: Any, folds: Any, seed: int) -> Folding:
    identity, same = identities(source.tokens, source.batch, _task(source))
    return folding(labels, identity, same, groups=groups, folds=folds, seed=seed)


def _control_labels(
    source: Source, labels: told.Labels, split: Folding, control: str, *, count: int, seed: int
) -> Array:
    """(control, batch[, position])"""
    if control not in ("shuffled", "tokens"):
        raise LoopscopeError(f"control must be 'shuffled' or 'tokens', but is {control!r}.")
    if control == "shuffled" or not isinstance(source.tokens, Tensor):
        return told.shuffled(labels, split.group, seed, count)
    return told.by_token(labels, source.tokens, seed, count)


def _fitted(
    source: Source,
    sites: tuple[str, ...],
    plan: Plan,
    *,
    baseline_labels: Any,
    random: Features | Run | bool | None,
) -> dict[str, Any]:
    """The fields of Probes: what is read off the states, off random features, and off the labels
    beside."""
    states = fit(source, plan)
    if not states:
        raise LoopscopeError(
            "no probe could be trained: at each position the labels are too few or all alike. Look at mask= "
            "and positions=."
        )
    alone = replace(plan, controls=plan.controls[:0])
    features, chance = "none were asked for", {}
    if random is not False:
        wanted = None if random in (None, True) else random
        made, features = random_source(source, sites, plan.seed, wanted)
        chance = fit(made, alone) if made is not None else {}
    beyond = {}
    if baseline_labels is not None:
        beyond = fit(ArraySource(one_hot(baseline_labels, source.batch, _position_count(source))), alone)
    parts = collected(source, sites, plan, states, chance=chance, beyond=beyond)
    return parts | {"features": features}


def _task(source: Source) -> Any:
    """The task whose examples these are, for what it takes for equal."""
    run = getattr(source, "run", None)
    return task_of(run) if run is not None else getattr(source.model, "task", None)
