"""Fitting of a linear probe for every site, iteration and position of a source, in two passes: the
sums that the fit needs, then the scores on held-out rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy import ndarray as Array

from ..common.progress import tracked
from ..maths.precision import resolution
from .fit_linear import fit_linear
from .labels import ProbeLabels
from .moments import SAME, Moments, are_equal
from .score_tally import ProbePlan, ProbeScore, ScoreTally, Unit, label_at, labelled_rows
from .sources import ExampleChunk, FeatureSource, SiteFeatures, SiteIteration

PART = 64_000_000
"""Bytes of features, in double precision, that are gone through at once."""


def fit_grid(source: FeatureSource, plan: ProbePlan) -> dict[tuple[str, int, Unit], ProbeScore]:
    """Fit and score a probe of every site, iteration and unit. Probes with too few labels are left
    out."""
    result: dict[tuple[str, int, Unit], ProbeScore] = {}
    for block in tracked(source.blocks(), "fitting probes"):
        one = _estimated if plan.estimator is not None else _closed
        result |= one(source, block, plan)
    return result


def _closed(
    source: FeatureSource, block: list[SiteIteration], plan: ProbePlan
) -> dict[tuple[str, int, Unit], ProbeScore]:
    labels, folds = plan.labels, plan.folding.folds
    sets = 1 + len(plan.controls)
    moments: dict[tuple[str, int, Unit], Moments] = {}
    for chunk in source.chunks(block):
        for key, x, example, place in _rows(chunk, plan):
            if len(x) == 0:
                continue
            if key not in moments:
                same = _epsilon(chunk, key)
                moments[key] = Moments.empty(x, folds, sets * labels.columns, centre=labels.centre, same=same)
            moments[key].add(x, _targets(plan, example, place), plan.folding.fold[example])
    learned = {
        key: fit_linear(one, labels.kind, sets) for key, one in moments.items() if _enough(one, labels)
    }
    tallies = {key: ScoreTally(plan) for key in learned}
    for chunk in source.chunks(block):
        for key, x, example, place in _rows(chunk, plan):
            if key not in learned or len(x) == 0:
                continue
            fold = plan.folding.fold[example]
            predictions = np.empty((sets, len(x)))
            for f in np.unique(fold):
                here = fold == f
                for number, probes in enumerate(learned[key]):
                    outputs = probes[f](x[here])
                    predictions[number, here] = (
                        outputs.argmax(1) if labels.kind == "classes" else outputs[:, 0]
                    )
            tallies[key].add(predictions, example, place)
    return {key: tally.result(learned[key][0]) for key, tally in tallies.items()}


def _estimated(
    source: FeatureSource, block: list[SiteIteration], plan: ProbePlan
) -> dict[tuple[str, int, Unit], ProbeScore]:
    """Probes by a scikit-learn estimator, which needs all rows of a site and iteration at once."""
    from sklearn.base import clone
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows_by_key: dict[tuple[str, int, Unit], list[tuple[Array, Array, Array]]] = {}
    epsilon: dict[tuple[str, int, Unit], float] = {}
    for chunk in source.chunks(block):
        for key, x, example, place in _rows(chunk, plan):
            rows_by_key.setdefault(key, []).append((x, example, place))
            epsilon[key] = _epsilon(chunk, key)
    result, labels = {}, plan.labels
    for key, parts in rows_by_key.items():
        x, example, place = (np.concatenate(part) for part in zip(*parts, strict=True))
        if are_equal(x.mean(0), x.var(0), epsilon[key]):
            x = np.zeros_like(x)
        fold, tally = plan.folding.fold[example], ScoreTally(plan)
        columns = (1 + len(plan.controls)) * labels.columns
        moments = Moments.empty(x[:, :0], plan.folding.folds, columns, centre=labels.centre)
        moments.add(x[:, :0], _targets(plan, example, place), fold)
        if not _enough(moments, labels):
            continue
        sets = [labels.values, *plan.controls]
        predictions = np.empty((len(sets), len(x)))
        for number, values in enumerate(sets):
            y = label_at(values, example, place)
            for f in np.unique(fold):
                probe = make_pipeline(StandardScaler(), clone(plan.estimator))
                predictions[number, fold == f] = probe.fit(x[fold != f], y[fold != f]).predict(x[fold == f])
        tally.add(predictions, example, place)
        result[key] = tally.result([])
    return result


def _epsilon(chunk: ExampleChunk, key: tuple[str, int, Unit]) -> float:
    """The machine epsilon of features, SAME of a shorter dtype."""
    return min(SAME, resolution(chunk.pieces[key[:2]].values.dtype))


def _rows(chunk: ExampleChunk, plan: ProbePlan) -> Any:
    """(key, x (row, width), example (row), position (row)) for every site, iteration and unit."""
    for (site, k), piece in chunk.pieces.items():
        for first, part in _parts(piece):
            values = part.values.cpu().to(torch.float64).numpy()
            for unit in plan.units:
                yield ((site, k, unit), *labelled_rows(values, part, unit, plan, first=chunk.first + first))


def _parts(piece: SiteFeatures) -> Iterator[tuple[int, SiteFeatures]]:
    """(number of the first example, features) of parts that aren't larger than PART in double
    precision."""
    count = len(piece.values)
    step = max(1, PART * count // max(1, 8 * piece.values.numel()))
    for a in range(0, count, step):
        present = None if piece.present is None else piece.present[a : a + step]
        yield a, SiteFeatures(piece.values[a : a + step], present)


def _targets(plan: ProbePlan, example: Array, place: Array) -> Array:
    """(row, column): one-hot classes or numbers, of the labels and then of each control."""
    columns = [label_at(values, example, place) for values in (plan.labels.values, *plan.controls)]
    if plan.labels.kind == "numbers":
        return np.stack(columns, 1)
    return np.concatenate([np.eye(plan.labels.columns)[one] for one in columns], 1)


def _enough(moments: Moments, labels: ProbeLabels) -> bool:
    """Whether every training set has enough rows, and two classes or numbers that differ."""
    count, y, yy = (
        part.sum(0) - part for part in (moments.count, moments.y, moments.yy)
    )  # of all but each fold
    if (count < 2).any():
        return False
    if labels.kind == "classes":
        return bool(((y[:, : labels.columns] > 0).sum(1) >= 2).all())
    return bool((yy[:, 0] - y[:, 0] ** 2 / count > 0).all())
