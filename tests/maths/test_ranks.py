"""Ranks: equal values share the mean of their ranks, and the order of the items is kept."""

import pytest
import torch

from loopscope.maths.ranks import centred_ranks


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
def test_equal_values_share_the_mean_of_their_ranks(dtype):
    values = torch.tensor([1, 0, 1, 0, 0], dtype=dtype)
    assert centred_ranks(values).tolist() == [1.5, -1.0, 1.5, -1.0, -1.0]


def test_ranks_count_from_the_smallest():
    assert centred_ranks(torch.tensor([3.0, -5.0, 20.0])).tolist() == [0.0, -1.0, 1.0]
