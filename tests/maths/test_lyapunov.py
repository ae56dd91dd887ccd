"""Lyapunov exponents and gains along a trajectory, against known values."""

import math

import pytest
import torch

import loopscope as ls
from loopscope import maths


def logistic(r: float):
    return lambda x: r * x * (1 - x)


def henon(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([1 - 1.4 * x[..., 0] ** 2 + x[..., 1], 0.3 * x[..., 0]], -1)


def scattered(count: int, width: int) -> torch.Tensor:
    """Starts between 0 and 1: short trajectories from many places say as much as a long one, at
    once."""
    return torch.rand(count, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_logistic_map_at_4_has_log_2():
    values = maths.lyapunov(logistic(4.0), 0.1 + 0.8 * scattered(16, 1), iterations=1000)[:, 0]
    assert values.tolist() == pytest.approx([math.log(2)] * 16, rel=0.02)


def test_the_henon_map_has_0_419_and_its_volume_shrinks_by_0_3():
    values = maths.lyapunov(henon, 0.2 * scattered(64, 2), iterations=500, count=2)
    assert float(values[:, 0].mean()) == pytest.approx(0.419, rel=0.02)
    assert values.sum(1).tolist() == pytest.approx([math.log(0.3)] * 64, abs=1e-9)


@pytest.mark.parametrize("r, cycle", [(2.8, 1), (3.2, 2), (3.5, 4)])
def test_on_a_cycle_it_is_the_mean_log_slope(r, cycle):
    x = torch.tensor([[0.3]], dtype=torch.float64)
    for _ in range(2000):
        x = logistic(r)(x)
    slopes = []
    for _ in range(cycle):
        slopes.append(math.log(abs(r * (1 - 2 * float(x)))))
        x = logistic(r)(x)
    result = maths.exponents(
        logistic(r), torch.tensor([[0.3]], dtype=torch.float64), iterations=400, transient=1000
    )
    assert float(result.values) == pytest.approx(sum(slopes) / cycle, abs=2e-3)
    assert float(result.error) < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_a_linear_map_they_are_the_logs_of_its_moduli(dtype):
    A = torch.tensor([[0.9, 5.0, 1.0], [0.0, 0.6, -0.5], [0.0, 0.5, 0.6]], dtype=dtype)
    result = maths.lyapunov(lambda x: x @ A.T, torch.ones(1, 3, dtype=dtype), iterations=600, count=3)[0]
    pair = math.log(math.hypot(0.6, 0.5))
    assert result.tolist() == pytest.approx([math.log(0.9), pair, pair], rel=0.01)


def test_long_rows_give_the_same_as_short_ones():
    """Products take the place of the whole Jacobian from a few numbers on."""
    A = torch.diag(torch.linspace(0.2, 0.95, 12, dtype=torch.float64))
    result = maths.lyapunov(
        lambda x: torch.tanh(x @ A.T), torch.ones(2, 12, dtype=torch.float64), 100, 2, transient=300
    )
    assert result[:, 0].tolist() == pytest.approx([math.log(0.95)] * 2, rel=1e-3)


def test_a_rotation_neither_grows_nor_shrinks():
    c, s = math.cos(1), math.sin(1)
    A = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    assert maths.lyapunov(lambda x: x @ A.T, torch.ones(1, 2, dtype=torch.float64), 500, 2).tolist()[
        0
    ] == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize("map", [lambda x: 0 * x, torch.ones_like])
@pytest.mark.parametrize("n", [1, 20])
def test_where_differences_vanish_it_is_minus_infinity(map, n):
    assert maths.lyapunov(map, torch.ones(1, n), 20, transient=0).tolist() == [[-math.inf]]


@pytest.mark.parametrize("n", [1, 20])
def test_an_overflow_is_caught_at_its_state_and_gives_no_number(n):
    """2^127 is the last power of two in float32; the other row goes on."""
    start = torch.cat([torch.ones(1, n), torch.zeros(1, n)])
    result = maths.exponents(lambda x: 2 * x, start, iterations=200, transient=50)
    assert result.overflow.tolist() == [128, -1]
    assert math.isnan(result.values[0, 0])
    assert float(result.values[1, 0]) == pytest.approx(math.log(2))


def test_the_backward_gain_is_the_norm_of_the_product():
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(30, 30, generator=generator, dtype=torch.float64) / 6
    x = torch.randn(2, 30, generator=generator, dtype=torch.float64)

    def map(x):
        return torch.tanh(x @ A.T)

    goal = []
    for row in x:
        product, y = torch.eye(30, dtype=torch.float64), row[None]
        for _ in range(7):
            product, y = maths.jacobian(map, y)[0] @ product, map(y)
        goal.append(float(torch.linalg.matrix_norm(product, 2)))
    assert maths.backward_gain(map, x, 7).tolist() == pytest.approx(goal, rel=1e-5)
    assert maths.backward_gain(map, x, 7, row_by_row=True).tolist() == pytest.approx(goal, rel=1e-5)
    assert maths.backward_gain(map, x, 0).tolist() == pytest.approx([1, 1])
    assert math.isnan(maths.backward_gain(lambda x: x**9 * 1e9, 9 + x, 50)[0])


def test_bad_input_gets_a_sentence():
    with pytest.raises(ls.LoopscopeError, match="iterations must be a whole number, 1 or more, but is 0"):
        maths.lyapunov(torch.cos, torch.zeros(1, 1), iterations=0)
    with pytest.raises(ls.LoopscopeError, match="iterations must be a whole number, 0 or more, but is -1"):
        maths.backward_gain(torch.cos, torch.zeros(1, 1), -1)
