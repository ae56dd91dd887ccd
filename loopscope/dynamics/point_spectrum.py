"""point_spectrum: the leading eigenvalues at the point where a row ends, computed once for all who
ask."""

import math
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..maths.dense_eigenvalues import DENSE
from ..maths.jacobian import Linearisation
from ..maths.spectrum import TRIANGULAR, Spectrum, rows_spectrum
from .iteration_map import IterationMap
from .limit_point import Limit

LEADING = 8
"""Eigenvalues that are computed where they cost no more than one, as from the whole Jacobian."""
LONG = 4096
"""Numbers per row from which on a search ends at fewer digits, since each product costs much ..."""
TOLERANCE = 1e-4
"""... a tenth of what tells an eigenvalue from 1 ..."""
PRODUCTS = 600
"""... or, about, after so many: of a crowded spectrum with the first eigenvalue alone."""
NEAR = 0.05
"""A radius this near to 1 is computed to all digits: in a map far from normal it is off by many
times its residual."""

LARGEST = 1 << 28
"""Bytes of whole Jacobians that are remembered."""

_remembered: WeakKeyDictionary[Limit, dict[tuple[int, int], Spectrum]] = WeakKeyDictionary()
_jacobians: WeakKeyDictionary[Limit, dict[int, Tensor]] = WeakKeyDictionary()


def point_linearisation(loop: IterationMap, limit: Limit, row: int) -> Linearisation:
    """The map near a row's point, with its whole Jacobian where `point_spectrum` has formed it."""
    x = limit.point[row][None]
    return Linearisation(loop.select_rows([row]), x, _jacobians.get(limit, {}).get(row))


def point_spectrum(loop: IterationMap, limit: Limit, row: int, count: int = 1, *, seed: int = 0) -> Spectrum:
    """The `count` leading eigenvalues of the Jacobian at a row's point, as
    `loopscope.maths.spectrum` gives them. They are remembered as long as the limit lives.

    Arguments:
        seed: of the vector that the search starts from.
    """
    spectra = _remembered.setdefault(limit, {})
    earlier = result = spectra.get((row, seed))
    width = limit.point.shape[1]
    if result is None or result.values.shape[1] < min(count, width):
        many = max(count, LEADING) if width <= TRIANGULAR else count
        result = _computed(loop, limit, row, many, seed)
        if many > count and bool(result.values.isnan().any()):  # one is found where eight aren't
            result = _computed(loop, limit, row, count, seed)
        if bool(result.values[:, :1].isnan().any()) and result.values.shape[1] > 1:
            result = _padded(earlier or _computed(loop, limit, row, 1, seed), result.values.shape[1])
        spectra[(row, seed)] = result
    return Spectrum(result.values[:, :count].clone(), result.error[:, :count].clone(), result.sentences)


def _computed(loop: IterationMap, limit: Limit, row: int, count: int, seed: int) -> Spectrum:
    linear = point_linearisation(loop, limit, row)
    if linear.size <= LONG:
        result = rows_spectrum([(linear, 0)], count, errors=linear.size <= DENSE, seed=seed)
        _remember(limit, row, linear.whole)
        return result
    result = rows_spectrum([(linear, 0)], count, seed=seed, products=PRODUCTS, tolerance=TOLERANCE)
    near = abs(float(result.radius[0]) - 1) < NEAR
    return rows_spectrum([(linear, 0)], count, seed=seed) if near else result


def _remember(limit: Limit, row: int, jacobian: Tensor | None) -> None:
    known = _jacobians.setdefault(limit, {})
    if jacobian is not None and sum(x.nbytes for x in (*known.values(), jacobian)) <= LARGEST:
        known[row] = jacobian


def _padded(result: Spectrum, count: int) -> Spectrum:
    """With NaN for the eigenvalues that weren't found."""
    missing = (0, count - result.values.shape[1])
    values, error = (
        torch.nn.functional.pad(x, missing, value=math.nan) for x in (result.values, result.error)
    )
    return Spectrum(values, error, result.sentences)
