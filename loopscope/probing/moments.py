"""Sufficient statistics of a linear probe: sums and Gram matrices by fold, so that no row needs to
be kept."""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from ..maths.precision import FLOOR

SAME = 1e-7
"""The machine epsilon of float32, about: no feature in a shorter dtype is constant for its
rounding."""


def are_equal(mean: Array, variance: Array, same: float) -> Array:
    """(*set): whether rows are equal but for rounding, as `loopscope.maths.precision.are_alike` has
    it. What is left of a state that a loop has forgotten is such dust, and must not be scaled up to
    features.

    Arguments:
        mean, variance: (*set, width) of the features.
        same: the machine epsilon of the rows.
    """
    spread = variance.sum(-1)
    return spread <= (FLOOR * same) ** 2 * ((mean**2).sum(-1) + spread)


@dataclass
class Moments:
    """Sums over rows x (width) and their labels y (column), for each fold. In float64, about
    `shift` and `centre`."""

    shift: Array
    """(width): subtracted from every row, so that a large common part costs no digits."""
    centre: float
    """Subtracted from every label, for the same reason; 0 for classes, whose sums are counts."""
    same: float
    """A feature whose spread is smaller than this part of its mean is constant but for rounding."""
    count: Array
    """(fold)"""
    x: Array
    """(fold, width)"""
    xx: Array
    """(fold, width, width)"""
    y: Array
    """(fold, column)"""
    xy: Array
    """(fold, width, column)"""
    yy: Array
    """(fold, column): of squares."""

    @classmethod
    def empty(
        cls, first: Array, folds: int, columns: int, *, centre: float = 0.0, same: float = SAME
    ) -> "Moments":
        """Nothing yet; `first` are rows to take the shift from."""
        d = first.shape[1]
        return cls(
            shift=first.mean(0) if len(first) else np.zeros(d),
            centre=centre,
            same=same,
            count=np.zeros(folds),
            x=np.zeros((folds, d)),
            xx=np.zeros((folds, d, d)),
            y=np.zeros((folds, columns)),
            xy=np.zeros((folds, d, columns)),
            yy=np.zeros((folds, columns)),
        )

    def add(self, x: Array, y: Array, fold: Array) -> None:
        """Count in rows x (row, width) with labels y (row, column) in their folds (row)."""
        for f in np.unique(fold):
            here = fold == f
            rows, labels = x[here] - self.shift, y[here] - self.centre
            self.count[f] += len(rows)
            self.x[f] += rows.sum(0)
            self.xx[f] += rows.T @ rows
            self.y[f] += labels.sum(0)
            self.xy[f] += rows.T @ labels
            self.yy[f] += (labels**2).sum(0)

    def of(self, chosen: Array) -> "Sums":
        """The sums over some folds, (fold) of bools; (set, fold) of bools: of several choices at
        once."""
        pick = np.asarray(chosen, float)
        parts = (self.count, self.x, self.xx, self.y, self.xy, self.yy)
        count, x, xx, y, xy, yy = (np.tensordot(pick, part, 1) for part in parts)
        return Sums(count, x, xx, y, xy, yy, self.shift, self.same)


@dataclass(frozen=True)
class Sums:
    """The same, of several folds together; of several choices of folds with an axis in front."""

    count: Array
    """(*set)"""
    x: Array
    """(*set, width)"""
    xx: Array
    """(*set, width, width)"""
    y: Array
    """(*set, column)"""
    xy: Array
    """(*set, width, column)"""
    yy: Array
    """(*set, column)"""
    shift: Array
    """(width)"""
    same: float

    def columns(self, which: slice) -> "Sums":
        """Of some of the label columns."""
        y, xy, yy = self.y[..., which], self.xy[..., which], self.yy[..., which]
        return Sums(self.count, self.x, self.xx, y, xy, yy, self.shift, self.same)
