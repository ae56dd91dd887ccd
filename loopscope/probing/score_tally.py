"""The scores of one probe from its predictions on held-out rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array

from . import intervals
from .fit_linear import LinearMap
from .folds import Folding
from .labels import ProbeLabels
from .sources import SiteFeatures

Unit = int | str
"""A position; "shared": each position is a row of one probe; "pooled": the mean over positions."""


@dataclass(frozen=True)
class ProbePlan:
    """The labels to predict, the control labels, the folds and the positions."""

    labels: ProbeLabels
    controls: Array
    """(control, batch[, position]): label sets for comparison."""
    folding: Folding
    units: Sequence[Unit]
    estimator: Any = None
    """A scikit-learn estimator in place of the closed forms."""
    seed: int = 0
    counted: Array | None = None
    """(batch, position): which positions count; None: all."""


@dataclass(frozen=True)
class ProbeScore:
    """The scores of one probe."""

    score: float
    """Accuracy, or R², on held-out groups."""
    low: float
    high: float
    control: float
    """Score with control labels, averaged over their sets."""
    majority: float
    """Of the most frequent class of all rows; 0 for numbers, whose mean has R² 0."""
    rows: int
    groups: int
    probes: list[LinearMap]
    """By fold, the last one trained on all; empty for an estimator."""


class ScoreTally:
    """Sums of hits, or of squared errors, by group, from which scores are computed."""

    def __init__(self, plan: ProbePlan) -> None:
        self.plan = plan
        groups = plan.folding.groups
        self.centre = plan.labels.centre
        self.rows = np.zeros(groups, int)
        self.sums = np.zeros((3, groups))
        """Hits and nothing else; or squared errors, y, y squared, with y about the labels'
        centre."""
        self.classes = np.zeros(plan.labels.columns, int)
        """Rows of each class."""
        self.control = np.zeros((len(plan.controls), 3))
        """Hits; or squared errors, y, y squared."""

    def add(self, predictions: Array, example: Array, place: Array) -> None:
        """Add rows: predictions (label set, row), their examples and positions (row)."""
        plan, group = self.plan, self.plan.folding.group[example]
        groups = len(self.rows)
        self.rows += np.bincount(group, minlength=groups)
        truth = [label_at(values, example, place) for values in (plan.labels.values, *plan.controls)]
        if plan.labels.kind == "classes":
            self.classes += np.bincount(truth[0], minlength=len(self.classes))
            self.sums[0] += np.bincount(group, predictions[0] == truth[0], groups)
            self.control[:, 0] += [(s == y).sum() for s, y in zip(predictions[1:], truth[1:], strict=True)]
            return
        error, y = predictions[0] - truth[0], truth[0] - self.centre
        for number, values in enumerate((error**2, y, y**2)):
            self.sums[number] += np.bincount(group, values, groups)
        for number, (s, true) in enumerate(zip(predictions[1:], truth[1:], strict=True)):
            y = true - self.centre
            self.control[number] += [((s - true) ** 2).sum(), y.sum(), (y**2).sum()]

    def result(self, probes: list[LinearMap]) -> ProbeScore:
        """The scores, their interval and the controls."""
        rows, total = self.rows, int(self.rows.sum())
        if self.plan.labels.kind == "classes":
            chance, folds = float(self.classes.max() / total), self.plan.folding.folds
            low, high = intervals.share_interval(self.sums[0], rows, chance, folds)
            score, majority = float(self.sums[0].sum() / total), chance
            control = self.control[:, 0] / total
        else:
            error, y, yy = self.sums
            low, high = intervals.r2_interval(
                error, y, yy, rows, seed=self.plan.seed, folds=self.plan.folding.folds
            )
            score, majority = float(intervals.r2(error.sum(), y.sum(), yy.sum(), np.asarray(total))), 0.0
            error, y, yy = self.control.T
            control = intervals.r2(error, y, yy, np.full(len(error), total))
        mean = float(np.mean(control)) if len(control) else float("nan")
        return ProbeScore(score, low, high, mean, majority, total, int((rows > 0).sum()), probes)


def labelled_rows(
    values: Array, piece: SiteFeatures, unit: Unit, plan: ProbePlan, *, first: int
) -> tuple[Array, Array, Array]:
    """(x (row, width), example (row), position (row)) of the rows that have labels and count.

    Arguments:
        values: (example, position, width).
        first: number of the first example.
    """
    size, positions = values.shape[:2]
    labels, counted = plan.labels, plan.counted
    mask = labels.mask[first : first + size]
    mask = mask if labels.per_position else mask[:, None]
    if piece.present is not None:
        mask = mask & piece.present.cpu().numpy()[:, None]
    if counted is not None:
        here = counted[first : first + size]
        mask = mask & (here if here.shape[1] == positions else here.any(1, keepdims=True))
    if unit == "shared":
        if mask.all():  # every row has a label
            example = np.repeat(np.arange(size), positions)
            return values.reshape(size * positions, -1), first + example, np.tile(np.arange(positions), size)
        example, place = np.nonzero(np.broadcast_to(mask, (size, positions)))
        return values[example, place], first + example, place
    if unit == "pooled":
        example = np.flatnonzero(mask.any(1))
        weight = np.broadcast_to(mask, (size, positions))[example].astype(float)
        kept = np.where(weight[..., None] > 0, values[example], 0.0)
        pooled = np.einsum("epw,ep->ew", kept, weight / weight.sum(1, keepdims=True))
        return pooled, first + example, mask[example].argmax(1)
    place = int(unit)
    example = np.flatnonzero(mask[:, place if mask.shape[1] > 1 else 0])
    return values[example, place], first + example, np.full(len(example), place)


def label_at(values: Array, example: Array, position: Array) -> Array:
    """(row): the labels, (batch) or (batch, position), of these examples and positions."""
    return values[example, position] if values.ndim == 2 else values[example]
