"""Linear probes from sums alone: discriminant analysis for classes, ridge regression for numbers.

Why discriminant analysis and not logistic regression: it is as linear, follows from the sums in one factorisation (so that a run
that doesn't fit into memory gives the same probe, and controls cost next to nothing), and unlike least squares on one-hot labels
it doesn't lose a class that lies between two others. Where classes are far from equal spread a logistic probe can do better:
`Probes.fit(..., estimator=LogisticRegression())`.

Sources: linear discriminant analysis with shrunk covariance as scikit-learn's LinearDiscriminantAnalysis(solver="lsqr") has it;
the shrinkage of Chen, Wiesel, Eldar & Hero 2010, "Shrinkage Algorithms for MMSE Covariance Estimation" (arXiv 0907.4698), OAS as
in sklearn.covariance.oas, which needs no choosing.
"""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from .moments import Moments, Sums

ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Ridge penalties, times the rows; chosen inside the training folds."""
_SAME = 1e-7  # a feature whose spread is smaller than this part of its mean is constant but for rounding
_FLOOR = 1e-6  # of the mean variance: the least spread within classes, where there is none at all


@dataclass(frozen=True)
class Linear:
    """What a probe says of a row x: x @ weight + bias."""

    weight: Array
    """(width, column)"""
    bias: Array
    """(column)"""

    def __call__(self, x: Array) -> Array:
        return x @ self.weight + self.bias


@dataclass(frozen=True)
class _Scaled:
    """Standardised sums."""

    mean: Array
    scale: Array
    """(width): infinite for a constant feature."""
    correlation: Array
    """(width, width); rows of constant features are 0."""


def _scaled(sums: Sums) -> _Scaled:
    mean = sums.x / sums.count
    covariance = sums.xx / sums.count - np.outer(mean, mean)
    variance = np.diag(covariance).clip(min=0)
    constant = variance <= (_SAME * np.abs(mean + sums.shift)) ** 2
    scale = np.where(constant, np.inf, np.sqrt(variance))
    return _Scaled(mean, scale, covariance / np.outer(scale, scale))


def discriminant(sums: Sums, scaled: _Scaled | None = None) -> Linear:
    """Linear discriminant analysis on standardised features; `sums.y` are the counts of classes.

    The covariance within classes is shrunk towards its mean variance, by OAS. Classes that don't occur are never said.
    """
    from scipy.linalg import cho_factor, cho_solve

    s = scaled or _scaled(sums)
    live = np.isfinite(s.scale)
    p, present = int(live.sum()), sums.y > 0
    share = sums.y / sums.count
    means = np.where(present, sums.xy / np.maximum(sums.y, 1) - s.mean[:, None], 0.0) / s.scale[:, None]
    bias = np.where(present, np.log(np.maximum(share, 1e-300)), -1e300)
    if p == 0:  # nothing varies: the most frequent class
        return Linear(np.zeros_like(means), bias)
    within = s.correlation - (means * share) @ means.T
    mean_variance = max(np.trace(within) / p, _FLOOR)
    amount = _oas(within, mean_variance, p, sums.count)
    covariance = (1 - amount) * within
    covariance[np.diag_indices_from(covariance)] += np.where(
        live, amount * mean_variance + _FLOOR * mean_variance, 1.0
    )
    directions = cho_solve(cho_factor(covariance, lower=True), means)
    bias = bias - 0.5 * (means * directions).sum(0)
    return _unscaled(directions, bias, s, sums)


def _oas(covariance: Array, mean_variance: float, p: int, n: float) -> float:
    """The amount of shrinkage, 0..1 (Chen et al. 2010, eq. 23, as scikit-learn has it)."""
    alpha = float((covariance**2).sum()) / p**2
    mu = mean_variance**2
    below = (n + 1) * (alpha - mu / p)
    return 1.0 if below <= 0 else min(1.0, (alpha + mu) / below)


def ridge(sums: Sums, alpha: float, scaled: _Scaled | None = None) -> Linear:
    """Ridge regression on standardised features, with the intercept free; `alpha` is the penalty by row."""
    from scipy.linalg import cho_factor, cho_solve

    s = scaled or _scaled(sums)
    mean = sums.y / sums.count
    slope = (sums.xy / sums.count - np.outer(s.mean, mean)) / s.scale[:, None]
    penalised = s.correlation + alpha * np.eye(len(s.scale))
    return _unscaled(cho_solve(cho_factor(penalised, lower=True), slope), mean, s, sums)


def squared_error(probe: Linear, sums: Sums) -> Array:
    """(column): the sum of squared errors over the rows that were summed, from the sums alone."""
    bias = probe.bias + sums.shift @ probe.weight
    error = sums.yy - 2 * (probe.weight * sums.xy).sum(0) - 2 * bias * sums.y
    return (
        error
        + ((sums.xx @ probe.weight) * probe.weight).sum(0)
        + 2 * bias * (sums.x @ probe.weight)
        + sums.count * bias**2
    )


def chosen_alpha(moments: Moments, train: Array, columns: slice) -> float:
    """The penalty with the least error on folds left out among the training folds, (fold) of bools."""
    errors = np.zeros(len(ALPHAS))
    for held in np.flatnonzero(train & (moments.count > 0)):
        rest = train.copy()
        rest[held] = False
        one = np.zeros_like(train)
        one[held] = True
        sums, test = moments.of(rest).columns(columns), moments.of(one).columns(columns)
        if sums.count < 2:
            continue
        scaled = _scaled(sums)
        errors += [float(squared_error(ridge(sums, alpha, scaled), test).sum()) for alpha in ALPHAS]
    return ALPHAS[int(errors.argmin())]


def fitted(moments: Moments, kind: str, sets: int) -> list[list[Linear]]:
    """Probes by label set (the labels, then the controls) and by fold: trained on all other folds; the last one on all.

    Arguments:
        sets: how many label sets the columns hold, one after another. All are fitted in the same way; ridge takes for the
            controls the penalty that was chosen for the labels.
    """
    folds, columns = len(moments.count), moments.y.shape[1] // sets
    found: list[list[Linear]] = [[] for _ in range(sets)]
    for fold in range(folds + 1):
        train = np.arange(folds) != fold
        sums = moments.of(train)
        scaled = _scaled(sums)
        alpha = chosen_alpha(moments, train, slice(0, columns)) if kind == "numbers" else 0.0
        for number in range(sets):
            part = sums.columns(slice(number * columns, (number + 1) * columns))
            one = discriminant(part, scaled) if kind == "classes" else ridge(part, alpha, scaled)
            found[number].append(one)
    return found


def _unscaled(weight: Array, bias: Array, s: _Scaled, sums: Sums) -> Linear:
    """The same probe for rows as they are."""
    weight = weight / s.scale[:, None]
    return Linear(weight, bias - (s.mean + sums.shift) @ weight)
