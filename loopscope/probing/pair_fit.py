"""Fitting of probes of relations: folds of pairs, logistic regression, scores on held-out pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array

from . import intervals
from .folds import folding
from .labels import ProbeLabels


@dataclass(frozen=True)
class Pairing:
    """Pairs of examples, with the relation between them and control relations."""

    pair: Array
    """(pair, 2): numbers of examples."""
    holds: Array
    """(pair)"""
    controls: Array
    """(control, pair): random relations."""


@dataclass(frozen=True)
class PairSplit:
    """The folds of examples, and the pairs that can be tested."""

    fold: Array
    """(example)"""
    group: Array
    """(example)"""
    tested: Array
    """(pair)"""
    folds: int


def pair_scores(x: Array, pairing: Pairing, split: PairSplit, *, form: str, swap: bool) -> list[float]:
    """The scores at one iteration, in the order of the fields of `PairProbes`."""
    pair, holds, tested = pairing.pair, pairing.holds, split.tested
    ahead, behind, middle, control, single = _outputs(x, pairing, split, form=form, swap=swap)
    ahead, behind, middle, truth = ahead[tested], behind[tested], middle[tested], holds[tested]
    hits = 0.5 * ((ahead > 0) == truth) + 0.5 * ((behind > 0) == ~truth)
    cluster = split.group[pair[tested, 0]]
    low, high = intervals.share_interval(np.bincount(cluster, hits), np.bincount(cluster), 0.5, split.folds)
    flip = (ahead > 0) != (behind > 0)
    unbiased = ((ahead - middle) > 0) != ((behind - middle) > 0)
    ordered = (ahead > 0) == truth
    return [
        hits.mean(),
        low,
        high,
        flip.mean(),
        unbiased.mean(),
        ordered.mean(),
        control[tested].mean(),
        single[tested].mean(),
    ]


def _outputs(x: Array, pairing: Pairing, split: PairSplit, *, form: str, swap: bool) -> tuple[Array, ...]:
    """For each held-out pair: the probe's output in this order and in the other, their mean in its
    fold; the fraction of right answers of the probes of control relations, and of probes of one
    state."""
    pair, holds, fold = pairing.pair, pairing.holds, split.fold
    a, b = x[pair[:, 0]], x[pair[:, 1]]
    forward, back = (a - b, b - a) if form == "difference" else (np.hstack([a, b]), np.hstack([b, a]))
    ahead, behind, middle, control, single = (np.zeros(len(pair)) for _ in range(5))
    for f in range(split.folds):
        test = split.tested & (fold[pair[:, 0]] == f)
        train = (fold[pair] != f).all(1)
        if not test.any():
            continue
        probe = _logistic(forward[train], back[train], holds[train], swap)
        ahead[test], behind[test] = probe(forward[test]), probe(back[test])
        middle[test] = (ahead[test] + behind[test]).mean() / 2
        for relation in pairing.controls:
            random = _logistic(forward[train], back[train], relation[train], True)
            control[test] += ((random(forward[test]) > 0) == relation[test]) / len(pairing.controls)
        of_one = _logistic(a[train], b[train], holds[train], True)
        right = (of_one(a[test]) > 0) == holds[test], (of_one(b[test]) > 0) == ~holds[test]
        single[test] += 0.5 * right[0] + 0.5 * right[1]
    return ahead, behind, middle, control, single


def _logistic(first: Array, second: Array, holds: Array, swap: bool) -> Callable[[Array], Array]:
    """A function of rows that is above 0 where the relation holds, trained on pairs in the first
    order, and in both if `swap`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = (np.vstack([first, second]), np.concatenate([holds, ~holds])) if swap else (first, holds)
    if y.all() or not y.any():  # the relation always holds in this order: a constant is right
        return lambda rows: np.full(len(rows), 1.0 if y.all() else -1.0)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000)).fit(x, y)
    return probe.decision_function


def pair_split(
    pair: Array, identity: Array, same: Array, groups: Any, *, folds: int, seed: int
) -> tuple[Array, Array, int]:
    """(fold, group) of each example and the number of groups. A group is a connected component of
    pairs, or an example where there are too few components."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    batch = len(identity)
    dummy = ProbeLabels("numbers", np.arange(batch, dtype=float), np.ones(batch, bool), ())
    single = folding(dummy, identity, same, groups=groups, folds=folds, seed=seed)
    edges = coo_array(
        (np.ones(len(pair)), (single.group[pair[:, 0]], single.group[pair[:, 1]])), shape=(single.groups,) * 2
    )
    count, component = connected_components(edges, directed=False)
    used = len(np.unique(component[single.group[pair]]))
    if used < 4 * folds:
        return single.fold, single.group, single.groups
    whole = folding(dummy, identity, same, groups=component[single.group], folds=folds, seed=seed)
    return whole.fold, whole.group, used
