"""The slope, its interval and chance, against what is known."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from loopscope.maths import slope


def test_chance_is_that_of_whole_groups_where_difficulty_belongs_to_them():
    """Forty groups of fifty equal items say as little as forty items."""
    x = torch.randn(40, generator=torch.Generator().manual_seed(0)).repeat_interleave(50)
    y = torch.randn(40, generator=torch.Generator().manual_seed(1)).repeat_interleave(50)
    low, high = slope(x, y, torch.arange(40).repeat_interleave(50)).shuffled_correlation
    assert low < -0.2 and high > 0.2, "about 2/sqrt(40); as items they would give 0.045"


def test_the_rank_correlation_is_scipys_and_lies_in_its_interval():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 4, (60,), generator=generator).float()
    y = x + 2 * torch.randn(60, generator=generator)
    result = slope(x, y, torch.arange(60))
    assert result.correlation == pytest.approx(spearmanr(x, y).statistic)
    low, high = result.correlation_interval
    assert low < result.correlation < high and high - low < 0.6


def test_the_slope_is_that_of_least_squares():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 50, generator=generator)
    result = slope(x, y, torch.arange(50))
    assert result.slope == pytest.approx(np.polyfit(x.numpy(), y.numpy(), 1)[0], rel=1e-5)
    assert result.low < result.slope < result.high


def test_the_interval_holds_the_true_slope_as_often_as_it_says_also_where_items_come_in_groups():
    inside, shuffled = 0, 0
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        of_group = torch.randn(40, generator=generator).repeat_interleave(
            5
        )  # an example's answers share a fate
        x = torch.randint(0, 4, (40,), generator=generator).repeat_interleave(5).float()
        y = 0.5 * x + of_group + 0.1 * torch.randn(200, generator=generator)
        result = slope(x, y, torch.arange(40).repeat_interleave(5), seed=seed)
        inside += result.low <= 0.5 <= result.high
        shuffled += result.shuffled[0] <= 0 <= result.shuffled[1]
        assert (result.items, result.groups) == (200, 40)
    assert inside >= 51, "57 of 60 are expected; fewer than 51 come one time in 250"
    assert shuffled == 60


def test_a_slope_that_cannot_be_known_is_unknown():
    x, y = torch.ones(5), torch.arange(5.0)
    assert np.isnan(slope(x, y, torch.arange(5)).slope)
    assert slope(y, torch.full((5,), torch.nan), torch.arange(5)).items == 0
    result = slope(torch.tensor([0.0, 1, 2, 3]), torch.tensor([0.0, 1, torch.nan, 3]), torch.arange(4))
    assert result.items == 3 and result.slope == pytest.approx(1)
