"""How far a fixed point moves with the input."""

import math

import pytest
import torch
from torch import Tensor

from loopscope import maths

from ..analyses.test_fixed_points import DOUBLE, starts
from .test_spectrum import matrix


def test_sensitivity_is_that_of_the_solution():
    A = matrix("non-normal, real", 0.6, 5) / 4
    B = starts(5, 3, seed=4)
    goal = torch.linalg.matrix_norm(torch.linalg.solve(torch.eye(5, dtype=DOUBLE) - A, B), 2)

    def map(x: Tensor, e: Tensor) -> Tensor:
        return x @ A.T + e @ B.T

    zero = torch.zeros(1, 5, dtype=DOUBLE)
    assert float(maths.sensitivity(map, zero, torch.zeros(1, 3, dtype=DOUBLE))) == pytest.approx(
        float(goal), rel=1e-5
    )
    assert float(maths.sensitivity(lambda x, e: x / 2, zero, zero)) == 0
    assert math.isnan(maths.sensitivity(lambda x, e: x + e, zero, zero))
