"""What a spectrum costs, in products with the Jacobian, and what its error bars hold: counts, not
seconds."""

import importlib

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, aslinearoperator, eigs
from torch import Tensor

from loopscope import maths
from loopscope.maths.dense_eigenvalues import DENSE
from loopscope.maths.jacobian import Linearisation
from loopscope.maths.linear_operator import operator_norm
from tests.toys.pass_counter import operations

N = DENSE + 88
LEADING = torch.linspace(0.95, 0.5, 24, dtype=torch.float64)
STATE = torch.zeros(1, N, dtype=torch.float64)
MODULE = importlib.import_module("loopscope.maths.spectrum")  # the package has a function of this name


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def far_from_normal() -> Tensor:
    """A matrix with 24 eigenvalues between 0.95 and 0.5 and smaller others, whose eigenvectors are
    far from orthogonal."""
    values = torch.cat([LEADING, 0.4 * drawn(N - 24).sigmoid()])
    P = torch.eye(N, dtype=torch.float64) + 0.8 * drawn(N, N, seed=1) / N**0.5
    return P @ torch.diag(values) @ torch.linalg.inv(P)


def products(call, n: int = N) -> float:
    """Operations of a call, over those of one product with an n x n matrix."""
    return operations(call) / (2 * n * n)


def test_a_linearisation_runs_its_map_once():
    A, calls = drawn(6, 6), []

    def map(x: Tensor) -> Tensor:
        calls.append(x.shape)
        return x @ A.T

    linear = Linearisation(map, torch.zeros(2, 6, dtype=torch.float64))
    assert not linear.value.any()
    for product in (linear.forward, linear.backward):
        product(torch.ones(2, 6))
    linear.dense()
    assert len(calls) == 1


def test_a_leading_eigenvalue_takes_as_many_products_as_arpack_by_hand(far_from_normal):
    """Of a linear map, whose product is the map itself; and to the same tolerance."""

    def map(x: Tensor) -> Tensor:
        return x @ far_from_normal.T

    def by_hand():
        def times(v: np.ndarray) -> np.ndarray:
            return map(torch.from_numpy(v.reshape(1, -1).copy())).numpy()[0]

        operator = LinearOperator((N, N), matvec=times, dtype=np.float64)
        values.append(abs(eigs(operator, k=1, v0=np.ones(N), tol=1e-5, return_eigenvectors=False)[0]))

    values: list[float] = []
    ours = products(lambda: values.append(float(maths.spectral_radius(map, STATE))))
    assert ours <= 1.2 * products(by_hand)
    assert values == pytest.approx([0.95, 0.95], rel=1e-5)


@pytest.mark.parametrize("errors", [False, True])
def test_twenty_eigenvalues_lie_within_their_errors(far_from_normal, errors):
    result = maths.spectrum(lambda x: x @ far_from_normal.T, STATE, 20, errors=errors)
    off = (result.values[0] - LEADING[:20]).abs()
    assert "ARPACK" in result.sentences[0]
    assert bool((off <= result.error[0] + 1e-12).all())
    assert float(result.error.max()) < 1e-3


def test_errors_know_the_departure_from_normality(far_from_normal):
    """Condition numbers from left and right vectors are those of the whole matrix; within the span
    of what was found they are no larger."""
    J = far_from_normal
    values, right = torch.linalg.eig(J)
    condition = torch.linalg.inv(right).norm(dim=1)[values.real.argsort(descending=True)[:4]]
    within, whole = (
        maths.spectrum(lambda x: x @ J.T, STATE, 4, errors=errors).error[0] for errors in (False, True)
    )
    assert bool((within <= whole * 1.001).all())
    ratio = (whole / within).max()
    assert 1 < float(ratio) <= 1.1 * float(condition.max())


def test_of_a_crowded_spectrum_the_radius_is_found_with_an_honest_error(monkeypatch):
    """The eigenvalues of a random matrix fill a disc."""
    monkeypatch.setattr("loopscope.maths.arnoldi.WHOLE", 0)
    monkeypatch.setattr(MODULE, "WHOLE", 0)
    J = 0.9 * drawn(N, N, seed=2) / N**0.5
    goal = float(torch.linalg.eigvals(J).abs().max())
    result = []
    cost = products(lambda: result.append(maths.spectrum(lambda x: x @ J.T, STATE, 8, products=600)))
    assert cost <= 1000
    assert abs(float(result[0].radius[0]) - goal) <= float(result[0].error[0, 0]) < 0.1


def test_a_singular_value_has_more_digits_than_its_search(far_from_normal):
    goal = float(torch.linalg.matrix_norm(far_from_normal, 2))
    values: list[float] = []
    cost = products(
        lambda: values.append(float(maths.singular_value(lambda x: x @ far_from_normal.T, STATE)))
    )
    assert values[0] == pytest.approx(goal, rel=1e-6)
    assert cost <= 60


@pytest.mark.parametrize("shape", [(17, 40), (40, 17), (18, 18), (20, 300), (21, 21), (64, 64)])
def test_the_norm_of_an_operator_of_any_shape_is_that_of_its_matrix(shape: tuple[int, int]):
    matrix = np.random.default_rng(0).standard_normal(shape)
    assert operator_norm(aslinearoperator(matrix)) == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-3)
