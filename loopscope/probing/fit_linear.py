"""The fit of a linear probe from sums over rows: discriminant analysis for classes, ridge
regression for numbers.

Why discriminant analysis and not logistic regression: it is as linear, follows from the sums in one
factorisation (so that a run that doesn't fit into memory gives the same probe, and controls cost
next to nothing), and unlike least squares on one-hot labels it doesn't lose a class that lies
between two others. Where classes are far from equal spread a logistic probe can do better:
`Probes.fit(..., estimator=LogisticRegression())`.

Sources: linear discriminant analysis with shrunk covariance as scikit-learn's
LinearDiscriminantAnalysis(solver="lsqr") has it; the shrinkage of Chen, Wiesel, Eldar & Hero 2010,
"Shrinkage Algorithms for MMSE Covariance Estimation" (arXiv 0907.4698), OAS as in
sklearn.covariance.oas, which needs no choosing.
"""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from .moments import Moments, Sums, are_equal

ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Ridge penalties, times the rows; chosen inside the training folds."""
_BATCHED = 256  # features up to which all training sets are worked on at once
_FLOOR = 1e-6  # of the mean variance: the least spread within classes, where there is none at all


@dataclass(frozen=True)
class LinearMap:
    """The output of a probe for a row x: x @ weight + bias."""

    weight: Array
    """(*set, width, column)"""
    bias: Array
    """(*set, column)"""

    def __call__(self, x: Array) -> Array:
        return x @ self.weight + self.bias


@dataclass(frozen=True)
class _Scaled:
    """Standardised sums, (*set, ...)."""

    mean: Array
    scale: Array
    """(*set, width): infinite for a constant feature."""
    correlation: Array
    """(*set, width, width); rows of constant features are 0."""


def _scaled(sums: Sums) -> _Scaled:
    count = sums.count[..., None]
    mean = sums.x / count
    covariance = sums.xx / count[..., None] - mean[..., :, None] * mean[..., None, :]
    variance = np.diagonal(covariance, axis1=-2, axis2=-1).clip(min=0)
    constant = variance <= (sums.same * np.abs(mean + sums.shift)) ** 2
    constant |= are_equal(mean + sums.shift, variance, sums.same)[..., None]
    scale = np.where(constant, np.inf, np.sqrt(variance))
    return _Scaled(mean, scale, covariance / (scale[..., :, None] * scale[..., None, :]))


def discriminant(sums: Sums, scaled: _Scaled | None = None) -> LinearMap:
    """Linear discriminant analysis on standardised features; `sums.y` are the counts of classes.

    The covariance within classes is shrunk towards its mean variance, by OAS. Classes that don't
    occur are never predicted.
    """
    s = scaled or _scaled(sums)
    live = np.isfinite(s.scale)
    p = np.maximum(live.sum(-1), 1)
    present, share = sums.y > 0, sums.y / sums.count[..., None]
    means = sums.xy / np.maximum(sums.y, 1)[..., None, :] - s.mean[..., None]
    means = np.where(present[..., None, :], means, 0.0) / s.scale[..., None]
    within = s.correlation - (means * share[..., None, :]) @ means.swapaxes(-1, -2)
    variance = np.maximum(np.trace(within, axis1=-2, axis2=-1) / p, _FLOOR)
    amount = _oas(within, variance, p, sums.count)
    covariance = (1 - amount)[..., None, None] * within
    added = (amount + _FLOOR) * variance
    diagonal = np.arange(within.shape[-1])
    covariance[..., diagonal, diagonal] += np.where(live, added[..., None], 1.0)
    directions = np.linalg.solve(covariance, means)
    bias = np.log(np.where(present, share, 1.0)) - 0.5 * (means * directions).sum(-2)
    return _unscaled(directions, np.where(present, bias, -1e300), s, sums)


def _oas(covariance: Array, variance: Array, p: Array, n: Array) -> Array:
    """The amount of shrinkage, 0..1 (Chen et al. 2010, eq. 23, as scikit-learn has it)."""
    alpha, mu = (covariance**2).sum((-1, -2)) / p**2, variance**2
    below = (n + 1) * (alpha - mu / p)
    return np.where(below <= 0, 1.0, np.minimum(1.0, (alpha + mu) / np.where(below <= 0, 1.0, below)))


def ridge(sums: Sums, alpha: Array | float, scaled: _Scaled | None = None) -> LinearMap:
    """Ridge regression on standardised features, with the intercept free; `alpha` (*set) is the
    penalty by row."""
    s = scaled or _scaled(sums)
    mean = sums.y / sums.count[..., None]
    slope = sums.xy / sums.count[..., None, None] - s.mean[..., :, None] * mean[..., None, :]
    penalised = s.correlation + np.asarray(alpha)[..., None, None] * np.eye(s.scale.shape[-1])
    return _unscaled(np.linalg.solve(penalised, slope / s.scale[..., None]), mean, s, sums)


def squared_error(probe: LinearMap, sums: Sums) -> Array:
    """(*set, column): the sum of squared errors over the rows that were summed, from the sums
    alone."""
    w, bias = probe.weight, probe.bias + sums.shift @ probe.weight
    error = sums.yy - 2 * (w * sums.xy).sum(-2) - 2 * bias * sums.y + ((sums.xx @ w) * w).sum(-2)
    return error + 2 * bias * (sums.x[..., None, :] @ w)[..., 0, :] + sums.count[..., None] * bias**2


def chosen_alpha(moments: Moments, train: Array, columns: slice) -> float:
    """The penalty with the least error on folds left out among the training folds, (fold) of
    bools."""
    errors = np.zeros(len(ALPHAS))
    for fold in np.flatnonzero(train & (moments.count > 0)):
        one = np.arange(len(train)) == fold
        sums, test = moments.of(train & ~one).columns(columns), moments.of(one).columns(columns)
        if sums.count < 2:
            continue
        scaled = _scaled(sums)
        errors += [float(squared_error(ridge(sums, alpha, scaled), test).sum()) for alpha in ALPHAS]
    return ALPHAS[int(errors.argmin())]


def fit_linear(moments: Moments, kind: str, sets: int) -> list[list[LinearMap]]:
    """Probes by label set (the labels, then the controls) and by fold: trained on all other folds;
    the last one on all.

    Arguments:
        sets: how many label sets the columns hold, one after another. All are fitted in the same
            way; ridge takes for the controls the penalty that was chosen for the labels.
    """
    folds, columns = len(moments.count), moments.y.shape[1] // sets
    trains = np.arange(folds)[None] != np.arange(folds + 1)[:, None]
    batches = [trains] if moments.x.shape[1] <= _BATCHED else np.split(trains, folds + 1)
    result: list[list[LinearMap]] = [[] for _ in range(sets)]
    for some in batches:  # one at a time where they are large
        sums = moments.of(some)
        scaled = _scaled(sums)
        first = slice(0, columns)
        alpha = np.array([chosen_alpha(moments, one, first) for one in some]) if kind == "numbers" else 0.0
        for number in range(sets):
            part = sums.columns(slice(number * columns, (number + 1) * columns))
            probe = discriminant(part, scaled) if kind == "classes" else ridge(part, alpha, scaled)
            bias = probe.bias + moments.centre
            result[number] += [LinearMap(*one) for one in zip(probe.weight, bias, strict=True)]
    return result


def _unscaled(weight: Array, bias: Array, s: _Scaled, sums: Sums) -> LinearMap:
    """The same probe for rows as they are."""
    weight = weight / s.scale[..., None]
    return LinearMap(weight, bias - ((s.mean + sums.shift)[..., None, :] @ weight)[..., 0, :])
