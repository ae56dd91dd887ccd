"""point_spectrum: the leading eigenvalues at the point where a row ends, computed once for all who
ask."""

import math
from collections.abc import Iterable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..maths.arnoldi import WHOLE
from ..maths.decided_spectrum import decided_spectrum
from ..maths.jacobian import Linearisation, linearised_rows
from ..maths.spectrum import TRIANGULAR, Spectrum
from ..maths.two_sided import Line
from .iteration_map import IterationMap
from .limit_point import Limit

ONE = Line(1.0, 1e-3)
"""What is to be known of a spectral radius: whether the point attracts, repels or does neither."""
LEADING = 8
"""Eigenvalues that are computed where they cost no more than one, as from the whole Jacobian."""
LONG = 4096
"""Numbers per row from which on each product with the Jacobian costs much."""
PRODUCTS, FEWER = 2000, 300
"""With the Jacobian of a row, at most, about; and of one that is longer than LONG, or so short that
the whole Jacobian costs no more."""

LARGEST = 1 << 28
"""Bytes of whole Jacobians that are remembered."""

_remembered: WeakKeyDictionary[Limit, dict[tuple[int, int, int | None], Spectrum]] = WeakKeyDictionary()
_jacobians: WeakKeyDictionary[Limit, dict[int, Tensor]] = WeakKeyDictionary()


def point_linearisation(loop: IterationMap, limit: Limit, row: int) -> Linearisation:
    """The map near a row's point, with its whole Jacobian where `point_spectrum` has formed it."""
    x = limit.point[row][None]
    return Linearisation(loop.select_rows([row]), x, _jacobians.get(limit, {}).get(row))


def point_spectrum(
    loop: IterationMap,
    limit: Limit,
    row: int,
    count: int = 1,
    *,
    seed: int = 0,
    products: int | None = None,
) -> Spectrum:
    """The `count` leading eigenvalues of the Jacobian at a row's point, as
    `loopscope.maths.decided_spectrum` gives them. They are remembered as long as the limit lives.

    Arguments:
        seed: of the vector that the search starts from.
        products: with the Jacobian, at most, about; None: PRODUCTS, or FEWER of a longer row.
    """
    spectra = _remembered.setdefault(limit, {})
    earlier = result = spectra.get((row, seed, products))
    width = limit.point.shape[1]
    if result is None or result.values.shape[1] < min(count, width):
        many = max(count, LEADING) if width <= TRIANGULAR else count
        linear = point_linearisation(loop, limit, row)
        result = rows_at([(linear, 0)], many, seed=seed, products=products)
        _remember(limit, row, linear.whole)
        if earlier is not None and not float(result.error[0, 0]) <= float(earlier.error[0, 0]):
            result = _padded(earlier, result.values.shape[1])
        spectra[(row, seed, products)] = result
    return Spectrum(result.values[:, :count].clone(), result.error[:, :count].clone(), result.sentences)


def spectrum_at(
    loop: IterationMap, x: Tensor, count: int = 1, *, seed: int = 0, products: int | None = None
) -> Spectrum:
    """The leading eigenvalues at states x of the map's rows; see `point_spectrum`."""
    return rows_at(linearised_rows(loop, x), count, seed=seed, products=products)


def rows_at(
    rows: Iterable[tuple[Linearisation, int]], count: int, *, seed: int = 0, products: int | None = None
) -> Spectrum:
    """The leading eigenvalues of rows that are linearised already; see `point_spectrum`.

    Arguments:
        rows: (linearisation, row in it).
    """
    rows = list(rows)
    n = rows[0][0].size
    most = FEWER if n > LONG else PRODUCTS if n > WHOLE else max(FEWER, n)
    most = most if products is None else products
    return decided_spectrum(rows, count, ONE, seed=seed, products=most)


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
