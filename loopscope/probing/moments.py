"""Sufficient statistics of a linear probe: sums and Gram matrices by fold, so that no row needs to be kept."""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array


@dataclass
class Moments:
    """Sums over rows x (width) and their labels y (column), for each fold. In float64, about `shift`."""

    shift: Array
    """(width): subtracted from every row, so that a large common part costs no digits."""
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
    def empty(cls, first: Array, folds: int, columns: int) -> "Moments":
        """Nothing yet; `first` are rows to take the shift from."""
        d = first.shape[1]
        shift = first.mean(0) if len(first) else np.zeros(d)
        zeros = [np.zeros(shape) for shape in ((folds,), (folds, d), (folds, d, d), (folds, columns))]
        return cls(shift, *zeros, np.zeros((folds, d, columns)), np.zeros((folds, columns)))

    def add(self, x: Array, y: Array, fold: Array) -> None:
        """Count in rows x (row, width) with labels y (row, column) in their folds (row)."""
        for f in np.unique(fold):
            here = fold == f
            rows, told = x[here] - self.shift, y[here]
            self.count[f] += len(rows)
            self.x[f] += rows.sum(0)
            self.xx[f] += rows.T @ rows
            self.y[f] += told.sum(0)
            self.xy[f] += rows.T @ told
            self.yy[f] += (told**2).sum(0)

    def of(self, chosen: Array) -> "Sums":
        """The sums over some folds, (fold) of bools."""
        return Sums(
            float(self.count[chosen].sum()),
            self.x[chosen].sum(0),
            self.xx[chosen].sum(0),
            self.y[chosen].sum(0),
            self.xy[chosen].sum(0),
            self.yy[chosen].sum(0),
            self.shift,
        )


@dataclass(frozen=True)
class Sums:
    """The same, of several folds together."""

    count: float
    x: Array
    """(width)"""
    xx: Array
    """(width, width)"""
    y: Array
    """(column)"""
    xy: Array
    """(width, column)"""
    yy: Array
    """(column)"""
    shift: Array
    """(width)"""

    def columns(self, which: slice) -> "Sums":
        """Of some of the label columns."""
        return Sums(self.count, self.x, self.xx, self.y[which], self.xy[:, which], self.yy[which], self.shift)
