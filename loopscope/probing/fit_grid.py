"""Train and test probes on everything a source has, in two passes: sums, then scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy import ndarray as Array

from . import intervals
from .folds import Folding
from .labels import Labels
from .linear_solver import Linear, fitted
from .moments import Moments
from .sources import Chunk, Piece, Place, Source

Unit = int | str
"""A position; "shared": every position a row of its own; "pooled": the mean over positions."""


@dataclass(frozen=True)
class Plan:
    """What is to be learned, from which rows, and what is held out."""

    labels: Labels
    controls: Array
    """(control, batch[, position]): label sets for comparison."""
    folding: Folding
    units: Sequence[Unit]
    estimator: Any = None
    """A scikit-learn estimator to be used in place of the closed forms."""
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """One probe's numbers."""

    score: float
    """Accuracy, or R², on groups that were held out."""
    low: float
    high: float
    control: float
    """The same with control labels, the mean over them."""
    majority: float
    """Of always saying what is most frequent among all rows; 0 for numbers, whose mean has R² 0."""
    rows: int
    groups: int
    probes: list[Linear]
    """By fold, the last one trained on all; empty for an estimator."""


def fit(source: Source, plan: Plan) -> dict[tuple[str, int, Unit], Result]:
    """Probes of every site, iteration and unit. Those with too little to learn from are left
    out."""
    result: dict[tuple[str, int, Unit], Result] = {}
    for block in source.blocks():
        one = _estimated if plan.estimator is not None else _closed
        result |= one(source, block, plan)
    return result


def _closed(source: Source, block: list[Place], plan: Plan) -> dict[tuple[str, int, Unit], Result]:
    labels, folds = plan.labels, plan.folding.folds
    sets = 1 + len(plan.controls)
    moments: dict[tuple[str, int, Unit], Moments] = {}
    for chunk in source.chunks(block):
        for key, x, example, place in _rows(chunk, plan):
            if len(x) == 0:
                continue
            if key not in moments:
                moments[key] = Moments.empty(x, folds, sets * labels.columns)
            moments[key].add(x, _targets(plan, example, place), plan.folding.fold[example])
    learned = {key: fitted(one, labels.kind, sets) for key, one in moments.items() if _enough(one, labels)}
    tallies = {key: Tally(plan) for key in learned}
    for chunk in source.chunks(block):
        for key, x, example, place in _rows(chunk, plan):
            if key not in learned or len(x) == 0:
                continue
            fold = plan.folding.fold[example]
            said = np.empty((sets, len(x)))
            for f in np.unique(fold):
                here = fold == f
                for number, probes in enumerate(learned[key]):
                    told = probes[f](x[here])
                    said[number, here] = told.argmax(1) if labels.kind == "classes" else told[:, 0]
            tallies[key].add(said, example, place)
    return {key: tally.result(learned[key][0]) for key, tally in tallies.items()}


def _estimated(source: Source, block: list[Place], plan: Plan) -> dict[tuple[str, int, Unit], Result]:
    """The same with an estimator of scikit-learn, which needs all rows of a place at once."""
    from sklearn.base import clone
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    gathered: dict[tuple[str, int, Unit], list[tuple[Array, Array, Array]]] = {}
    for chunk in source.chunks(block):
        for key, x, example, place in _rows(chunk, plan):
            gathered.setdefault(key, []).append((x, example, place))
    result, labels = {}, plan.labels
    for key, parts in gathered.items():
        x, example, place = (np.concatenate(part) for part in zip(*parts, strict=True))
        fold, tally = plan.folding.fold[example], Tally(plan)
        moments = Moments.empty(x[:, :0], plan.folding.folds, (1 + len(plan.controls)) * labels.columns)
        moments.add(x[:, :0], _targets(plan, example, place), fold)
        if not _enough(moments, labels):
            continue
        sets = [labels.values, *plan.controls]
        said = np.empty((len(sets), len(x)))
        for number, values in enumerate(sets):
            y = _at(values, example, place)
            for f in np.unique(fold):
                probe = make_pipeline(StandardScaler(), clone(plan.estimator))
                said[number, fold == f] = probe.fit(x[fold != f], y[fold != f]).predict(x[fold == f])
        tally.add(said, example, place)
        result[key] = tally.result([])
    return result


def _rows(chunk: Chunk, plan: Plan) -> Any:
    """(key, x (row, width), example (row), place (row)) for every place and unit of a chunk."""
    for (site, k), piece in chunk.pieces.items():
        values = piece.values.cpu().to(torch.float64).numpy()
        for unit in plan.units:
            yield ((site, k, unit), *chosen_rows(values, piece, unit, plan.labels, first=chunk.first))


def chosen_rows(
    values: Array, piece: Piece, unit: Unit, labels: Labels, *, first: int
) -> tuple[Array, Array, Array]:
    size, positions = values.shape[:2]
    held = labels.mask[first : first + size]
    held = held if labels.per_position else held[:, None]
    if piece.present is not None:
        held = held & piece.present.cpu().numpy()[:, None]
    if unit == "shared":
        if held.all():  # nothing to pick
            example = np.repeat(np.arange(size), positions)
            return values.reshape(size * positions, -1), first + example, np.tile(np.arange(positions), size)
        example, place = np.nonzero(np.broadcast_to(held, (size, positions)))
        return values[example, place], first + example, place
    if unit == "pooled":
        example = np.flatnonzero(held.any(1))
        weight = np.broadcast_to(held, (size, positions))[example].astype(float)
        pooled = np.einsum("epw,ep->ew", values[example], weight / weight.sum(1, keepdims=True))
        return pooled, first + example, held[example].argmax(1)
    place = int(unit)
    example = np.flatnonzero(held[:, place if labels.per_position else 0])
    return values[example, place], first + example, np.full(len(example), place)


def _at(values: Array, example: Array, place: Array) -> Array:
    return values[example, place] if values.ndim == 2 else values[example]


def _targets(plan: Plan, example: Array, place: Array) -> Array:
    """(row, column): one-hot classes or numbers, of the labels and then of each control."""
    columns = [_at(values, example, place) for values in (plan.labels.values, *plan.controls)]
    if plan.labels.kind == "numbers":
        return np.stack(columns, 1)
    return np.concatenate([np.eye(plan.labels.columns)[one] for one in columns], 1)


def _enough(moments: Moments, labels: Labels) -> bool:
    """Whether every training set has what it takes: rows, and two classes or numbers that
    differ."""
    count, y, yy = (
        part.sum(0) - part for part in (moments.count, moments.y, moments.yy)
    )  # of all but each fold
    if (count < 2).any():
        return False
    if labels.kind == "classes":
        return bool(((y[:, : labels.columns] > 0).sum(1) >= 2).all())
    return bool((yy[:, 0] - y[:, 0] ** 2 / count > 0).all())


class Tally:
    """Hits, or squared errors, by group."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        groups = plan.folding.groups
        self.rows = np.zeros(groups, int)
        self.sums = np.zeros((3, groups))
        """Hits and nothing else; or squared errors, y, y squared."""
        self.classes = np.zeros(plan.labels.columns, int)
        """How often each comes."""
        self.control = np.zeros((len(plan.controls), 3))
        """Hits; or squared errors, y, y squared."""

    def add(self, said: Array, example: Array, place: Array) -> None:
        """Count rows: said (label set, row)."""
        plan, group = self.plan, self.plan.folding.group[example]
        groups = len(self.rows)
        self.rows += np.bincount(group, minlength=groups)
        truth = [_at(values, example, place) for values in (plan.labels.values, *plan.controls)]
        if plan.labels.kind == "classes":
            self.classes += np.bincount(truth[0], minlength=len(self.classes))
            self.sums[0] += np.bincount(group, said[0] == truth[0], groups)
            self.control[:, 0] += [(s == y).sum() for s, y in zip(said[1:], truth[1:], strict=True)]
            return
        for number, values in enumerate(((said[0] - truth[0]) ** 2, truth[0], truth[0] ** 2)):
            self.sums[number] += np.bincount(group, values, groups)
        for number, (s, y) in enumerate(zip(said[1:], truth[1:], strict=True)):
            self.control[number] += [((s - y) ** 2).sum(), y.sum(), (y**2).sum()]

    def result(self, probes: list[Linear]) -> Result:
        rows, total = self.rows, int(self.rows.sum())
        if self.plan.labels.kind == "classes":
            chance, folds = float(self.classes.max() / total), self.plan.folding.folds
            low, high = intervals.of_share(self.sums[0], rows, chance, folds)
            score, majority = float(self.sums[0].sum() / total), chance
            control = self.control[:, 0] / total
        else:
            error, y, yy = self.sums
            low, high = intervals.of_r2(
                error, y, yy, rows, seed=self.plan.seed, folds=self.plan.folding.folds
            )
            score, majority = float(intervals.r2(error.sum(), y.sum(), yy.sum(), np.asarray(total))), 0.0
            error, y, yy = self.control.T
            control = intervals.r2(error, y, yy, np.full(len(error), total))
        mean = float(np.mean(control)) if len(control) else float("nan")
        return Result(score, low, high, mean, majority, total, int((rows > 0).sum()), probes)
