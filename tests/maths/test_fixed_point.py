"""Solvers of fixed points: they find what scipy and torchdeq find, and claim nothing else."""

import warnings

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor

import loopscope as ls
from loopscope import maths

from .test_spectrum import matrix

METHODS = ["plain", "damped", "anderson", "newton"]
DOUBLE = torch.float64


def starts(count: int, width: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("n", [1, 3, 40, 200])
def test_every_solver_finds_the_point_that_scipy_finds(method, n, dtype):
    A = matrix("normal, complex", 0.9, n + n % 2)[:n, :n].to(dtype)
    c = starts(1, n, seed=3, dtype=dtype)

    def map(x: Tensor) -> Tensor:
        return torch.tanh(x @ A.T + c)

    A64, c64 = A.double().numpy(), c.double().numpy()[0]
    root = scipy.optimize.root(lambda x: np.tanh(A64 @ x + c64) - x, np.zeros(n), tol=1e-13)
    result = maths.solve(map, starts(3, n, dtype=dtype), method)
    assert result.converged.all()
    assert np.abs(result.point.double().numpy() - root.x).max() < 1e-5
    assert (result.residual <= result.tolerance).all()


def test_torchdeq_finds_the_same_point():
    with warnings.catch_warnings():  # its source has an escape that Python warns of when it compiles it
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        from torchdeq.solver import get_solver

    A, c = matrix("non-normal, real", 0.8, 6), starts(1, 6, seed=3)

    def map(x: Tensor) -> Tensor:
        return torch.tanh(0.3 * x @ A.T + c)

    goal, *_ = get_solver("anderson")(
        map, torch.zeros(2, 6, dtype=DOUBLE), max_iter=300, tol=1e-10, stop_mode="rel"
    )
    for method in ("anderson", "newton"):
        result = maths.solve(map, starts(2, 6), method)
        assert result.converged.all()
        assert torch.allclose(result.point, goal, atol=1e-5)


def test_solvers_go_where_iteration_does_not():
    """z -> c - z turns round c / 2 for ever; damping, mixing and Newton's method come to it."""
    for method in METHODS:
        result = maths.solve(lambda z: 3 - z, torch.tensor([[0.2]]), method)
        if method == "plain":
            assert result.endings == (maths.Ending.out_of_iterations,)
        else:
            assert float(result.point) == pytest.approx(1.5)


@pytest.mark.parametrize("dtype, largest", [(torch.float32, 128), (DOUBLE, 1024)])
def test_an_overflow_ends_its_row_at_the_iterate_where_it_begins(dtype, largest):
    """2^k leaves float32 at k = 128 and float64 at k = 1024; the row that starts at the fixed point
    isn't touched."""
    result = maths.solve(
        lambda x: 2 * x, torch.tensor([[1.0], [0.0]], dtype=dtype), "plain", max_iterations=2000
    )
    assert result.endings == (maths.Ending.overflow, maths.Ending.converged)
    assert result.iterations.tolist() == [largest, 0]
    assert result.point.isnan().flatten().tolist() == [True, False]


@pytest.mark.parametrize("method", METHODS)
def test_nan_is_no_solution(method):
    result = maths.solve(
        lambda x: torch.where(x > 2, torch.nan, x + 1),
        torch.tensor([[0.5], [9.0]]),
        method,
        max_iterations=50,
    )
    assert not result.converged.any()
    assert result.endings[1] is maths.Ending.overflow
    assert result.iterations[1] == 1


@pytest.mark.parametrize("method", METHODS)
def test_without_a_fixed_point_none_is_claimed(method):
    """Anderson's mixing may leap so far out that a step of 1 is lost in rounding: `FAR` keeps
    analyses from that."""
    result = maths.solve(lambda x: x + 1, starts(2, 3), method, max_iterations=300)
    assert not (result.converged & (result.point.norm(dim=1) < 1e6)).any()


def test_a_start_that_is_the_solution_needs_no_iteration():
    result = maths.solve(lambda x: x, starts(2, 3), "newton")
    assert result.iterations.tolist() == [0, 0]
    assert result.converged.all()


def test_points_are_one_when_a_chain_joins_them():
    points = torch.tensor([[0.0], [5.0], [0.1], [float("nan")], [0.2], [5.05]])
    assert maths.cluster(points, 0.15).tolist() == [0, 1, 0, -1, 0, 1]


@pytest.mark.parametrize(
    "options, text",
    [
        ({"method": "newtom"}, r"but is 'newtom' .str.\. Did you mean 'newton'"),
        ({"damping": 0.0}, r"damping must be a number above 0, at most 1, but is 0.0"),
        ({"tolerance": -1.0}, r"tolerance must be a finite number above 0 .or None., but is -1.0"),
    ],
)
def test_bad_options_get_a_sentence(options, text):
    with pytest.raises(ls.LoopscopeError, match=text):
        maths.solve(torch.cos, torch.zeros(1, 1), **options)
