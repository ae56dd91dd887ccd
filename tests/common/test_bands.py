"""A band is the interval of a mean over examples."""

import pytest
import torch

from loopscope.common.bands import draw_weights, mean_band
from loopscope.common.evidence import estimate, resample

VALUES = torch.randn(3, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_it_is_the_bootstrap_interval_of_the_mean_at_each_point():
    low, high = mean_band(VALUES)
    for row, a, b in zip(VALUES, low, high, strict=True):
        one = estimate("mean", lambda draw, row=row: float(row[draw].mean()), 60)
        assert (float(a), float(b)) == (pytest.approx(one.low), pytest.approx(one.high))


def test_items_of_one_example_are_drawn_together():
    same = VALUES[:, :6].repeat_interleave(10, 1)  # sixty items, of which only six differ
    narrow = mean_band(same)
    wide = mean_band(same, torch.arange(60) // 10 + 7)
    alone = mean_band(VALUES[:, :6])
    for a, b in zip(wide, alone, strict=True):
        assert torch.allclose(a, b)
    assert ((wide[1] - wide[0]) > 1.5 * (narrow[1] - narrow[0])).all()


def test_what_is_unknown_is_left_out():
    holes = VALUES.clone()
    holes[1, ::2] = torch.nan
    holes[2] = torch.nan
    low, high = mean_band(holes)
    assert low[:2].isfinite().all() and low[2].isnan() and high[2].isnan()
    assert mean_band(VALUES[:, :1])[0].isnan().all()


def test_weights_count_the_draws():
    weights, draws = draw_weights(5, 20), resample(5, 20)
    assert (weights.sum(1) == 5).all()
    assert float(weights[3, 2]) == int((draws[3] == 2).sum())
