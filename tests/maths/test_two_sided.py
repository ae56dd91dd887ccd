"""The leading eigenvalue with a bound of its error: planted matrices, near and far from normal,
whose eigenvalues are known; and products are counted."""

import math

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator

from loopscope.maths import spectrum
from loopscope.maths.decided_spectrum import decided_spectrum
from loopscope.maths.dense_eigenvalues import DENSE
from loopscope.maths.jacobian import linearised_rows
from loopscope.maths.two_sided import Bounded, CountedOperator, Line, bounded_eigenvalue

N, PRODUCTS = DENSE + 88, 2000
LINE = Line(1.0, 1e-3)


def planted(values: np.ndarray, departure: float, seed: int = 0) -> np.ndarray:
    """Q (D + N) Qᵀ with these eigenvalues, real or in pairs; N is strictly upper triangular, of
    this norm or so."""
    generator = np.random.default_rng(seed)
    n = len(values)
    T = np.triu(generator.standard_normal((n, n)), 1) * departure / math.sqrt(n)
    place = 0
    while place < n:
        value = values[place]
        T[place, place] = value.real
        if value.imag:
            T[place, place + 1], T[place + 1, place] = value.imag, -value.imag
            T[place + 1, place + 1] = value.real
            place += 1
        place += 1
    Q = np.linalg.qr(generator.standard_normal((n, n)))[0]
    return Q @ T @ Q.T


def values_of(first: complex, rest: float = 0.6, seed: int = 1) -> np.ndarray:
    """This one (or pair) first, and others of at most `rest`."""
    leading = [first, first.conjugate()] if first.imag else [first]
    others = rest * np.random.default_rng(seed).uniform(-1, 1, N - len(leading))
    return np.array([*leading, *others], complex)


def bounded(J: np.ndarray, line: Line = LINE, products: int = PRODUCTS) -> tuple[Bounded, int]:
    """The result, and the products that it took."""
    operator = LinearOperator(J.shape, matvec=lambda v: J @ v, rmatvec=lambda v: J.T @ v, dtype=np.float64)
    counted = CountedOperator(operator)
    start = np.random.default_rng(0).standard_normal(len(J))
    size = float(np.linalg.norm(J @ start) / np.linalg.norm(start))
    eps = float(np.finfo(np.float64).eps)
    return bounded_eigenvalue(counted, start, line, eps=eps, size=size, products=products), counted.count


FIRSTS = (0.9, 0.997, 1.003, 1.05, 0.95 * np.exp(1j), 1.2 * np.exp(0.3j), -0.98)


@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("departure", [0.0, 1.0, 3.0])
def test_the_error_bounds_the_distance_from_a_planted_value(first: complex, departure: float):
    J = planted(values_of(complex(first)), departure)
    result, count = bounded(J)
    off = min(abs(result.value - value) for value in (complex(first), complex(first).conjugate()))
    assert off <= result.error
    assert LINE.decides(abs(result.value), result.error)
    assert count <= PRODUCTS


@pytest.mark.parametrize("departure", [1.0, 3.0, 6.0, 40.0])
def test_a_map_far_from_normal_is_never_said_to_be_on_the_wrong_side(departure: float):
    """Where no search resolves the value, among many nearly as large, it isn't known."""
    for first in (0.9, 0.997):
        values = values_of(first + 0j, 0.9)
        result, _ = bounded(planted(values, departure), products=600)
        modulus, radius = abs(result.value), float(np.abs(values).max())
        assert abs(modulus - radius) <= result.error
        assert not (LINE.decides(modulus, result.error) and modulus > 1)


def test_what_is_far_from_the_line_takes_few_products():
    J = planted(values_of(0.9 + 0j, 0.8), 1.0)
    rough, few = bounded(J)
    exact, many = bounded(J, Line(0.9001, 1e-6))
    assert few <= 120
    assert 1.5 * few < many <= 300
    assert abs(exact.value - 0.9) <= exact.error < 1e-4 < rough.error


def test_the_norm_decides_where_values_crowd():
    J = 0.8 * np.linalg.qr(np.random.default_rng(0).standard_normal((N, N)))[0]
    result, count = bounded(J, products=300)
    assert abs(result.value) + result.error < 1
    bound = abs(result.value) + result.error
    assert 0.8 <= bound < 0.8 * 1.06 and "bounds the radius by 0.8" in result.how
    assert count <= 350


@pytest.mark.parametrize("seed", range(3))
def test_one_value_beyond_a_crowd_isnt_bounded_away(seed: int):
    """A normal matrix: rotations of one modulus, and one value beyond them and beyond the line."""
    generator = np.random.default_rng(seed)
    Q = np.linalg.qr(generator.standard_normal((N, N)))[0]
    values = np.full(N, 0.985) * generator.choice([-1.0, 1.0], N)
    values[0] = 1.01
    result, _ = bounded(Q @ np.diag(values) @ Q.T, products=300)
    modulus = abs(result.value)
    assert not LINE.decides(modulus, result.error) or modulus - result.error > 1


def test_a_disc_of_values_that_nothing_resolves_isnt_decided():
    J = 1.0 * np.random.default_rng(0).standard_normal((N, N)) / math.sqrt(N)
    result, _ = bounded(J, products=300)
    radius = float(np.abs(np.linalg.eigvals(J)).max())
    assert (
        not LINE.decides(abs(result.value), result.error) or abs(abs(result.value) - radius) <= result.error
    )


def test_a_row_whose_whole_jacobian_is_formed_has_an_error_too():
    """Where products don't decide, and blocks are too large for all vectors."""
    J = torch.from_numpy(planted(values_of(0.997 + 0j, 0.9), 12.0))
    state = torch.zeros(1, N, dtype=torch.float64)
    result = decided_spectrum(linearised_rows(lambda x: x @ J.T, state), 3, LINE, products=300)
    off = abs(float(result.radius[0]) - 0.997)
    # to first order, in a matrix whose entries' rounding moves its values by tenths
    assert off <= 4 * float(result.error[0, 0]) < math.inf
    assert bool(torch.isnan(spectrum(lambda x: x @ J.T, state, 1).error).any()) is False


def test_the_others_stand_behind_the_first():
    values = values_of(0.9 + 0j, 0.3)
    values[1:5] = [0.8, 0.7, 0.6, 0.5]
    J = torch.from_numpy(planted(values, 0.5))
    state = torch.zeros(1, N, dtype=torch.float64)
    result = decided_spectrum(linearised_rows(lambda x: x @ J.T, state), 5, LINE, products=PRODUCTS)
    off = (result.values[0] - torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5], dtype=torch.complex128)).abs()
    assert bool((off <= result.error[0] + 1e-9).all())
    assert float(result.error.max()) < 1e-2
