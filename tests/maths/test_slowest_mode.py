"""The slowest mode of an approach, from the approach by itself, with an error that covers the
neglected modes."""

import math

import pytest
import torch

from loopscope import maths

from ..analyses.test_fixed_points import DOUBLE, starts


@pytest.mark.parametrize("order, modes", [(1, [0.7]), (2, [0.7, 0.5]), (3, [0.8, -0.7, 0.6])])
def test_modes_are_told_from_the_approach_alone(order, modes):
    k = torch.arange(40, dtype=DOUBLE)[:, None]
    approach = sum(m**k * starts(1, 5, seed=i) for i, m in enumerate(modes))
    result = maths.mode(torch.as_tensor(approach), 1e-14)
    assert result.value == pytest.approx(max(map(abs, modes)), rel=1e-4)


def test_a_defective_approach_has_its_rate_too():
    """k 0.9^k follows no straight line."""
    k = torch.arange(60, dtype=DOUBLE)[:, None]
    assert maths.mode((1 + 5 * k) * 0.9**k, 1e-14).value == pytest.approx(0.9, rel=1e-3)


@pytest.mark.parametrize(
    "approach", [torch.ones(30, 2), torch.rand(30, 2), 1 / (1 + torch.arange(30.0))[:, None]]
)
def test_no_mode_is_read_from_what_follows_none(approach):
    result = maths.mode(approach, 1e-6)
    assert math.isnan(result.value)
    assert result.sentence.startswith("There is no contraction rate")


def test_an_approach_that_slows_down_says_how_little_its_rate_is_known():
    """A six-fold defective eigenvalue of 0.8: k^5 0.8^k looks straight for long, at a rate of its
    own, some 2 % above."""
    J = 0.8 * torch.eye(6, dtype=DOUBLE) + torch.diag(torch.full((5,), 5.0, dtype=DOUBLE), 1)
    states = [starts(1, 6)]
    for _ in range(200):
        states.append(states[-1] @ J.T)
    result = maths.mode(torch.cat(states), 1e-14)
    assert result.error > 1e-3
    assert result.value - 0.8 < 0.03
