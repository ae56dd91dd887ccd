"""The search for a largest singular value ends as soon as that is found, and finds numpy's."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

from loopscope.maths.bidiagonal import bidiagonal_search
from loopscope.maths.linear_operator import operator_norm


def counted(matrix: np.ndarray) -> tuple[LinearOperator, list[int]]:
    """The matrix as an operator, and a list with an entry for each product."""
    products: list[int] = []

    def times(a: np.ndarray, v: np.ndarray) -> np.ndarray:
        products.append(1)
        return a @ v

    return LinearOperator(
        matrix.shape,
        matvec=lambda v: times(matrix, v),
        rmatvec=lambda u: times(matrix.T, u),
        dtype=float,
    ), products


def matrices() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    square, fall = random.standard_normal((60, 60)), 0.8 ** np.arange(60)
    return {
        "falling": square * fall,
        "wide": random.standard_normal((40, 90)),
        "tall": random.standard_normal((90, 40)),
        "orthogonal": np.linalg.qr(square)[0],
        "one direction": np.outer(square[0], square[1]),
        "zero": np.zeros((50, 50)),
    }


@pytest.mark.parametrize("name", matrices())
def test_the_largest_singular_value_is_that_of_the_whole_matrix(name):
    matrix = matrices()[name]
    operator, _ = counted(matrix)
    assert operator_norm(operator) == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "most"), [("falling", 32), ("orthogonal", 2), ("one direction", 4), ("zero", 2)]
)
def test_no_product_is_made_that_does_not_decide(name, most):
    operator, products = counted(matrices()[name])
    operator_norm(operator)
    assert len(products) <= most


def test_where_products_are_not_finite_there_is_no_number():
    matrix = np.eye(30)
    matrix[3, 4] = np.nan
    assert np.isnan(operator_norm(counted(matrix)[0]))


def test_the_vector_is_the_one_that_is_stretched_most():
    matrix = matrices()["falling"]
    start = np.random.default_rng(1).standard_normal(60)
    found = bidiagonal_search(counted(matrix)[0], start, 1e-12, 60)
    assert found.residual <= 1e-12
    assert np.linalg.norm(matrix @ found.vector) == pytest.approx(found.value, rel=1e-10)
    assert np.linalg.norm(found.vector) == pytest.approx(1.0)
