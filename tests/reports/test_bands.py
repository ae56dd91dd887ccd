"""Bands in figures: an interval is drawn between its ends, with a gap where it isn't known."""

import torch

from loopscope.plots import style
from loopscope.plots.bands import add_band, with_gaps


def test_a_band_goes_round_the_interval_and_leaves_out_what_is_not_known():
    figure = style.empty("title", "x", "y")
    low, high = torch.tensor([0.0, 0.5, float("nan")]), torch.tensor([1.0, 2.0, 3.0])
    add_band(figure, (0, 2, 3), low, high, colour=style.BLUE)
    (band,) = figure.data
    assert band.x == (0, 2, 2, 0) and band.y == (1, 2, 0.5, 0) and band.fill == "toself"


def test_numbers_are_rounded_and_nan_is_a_gap():
    assert with_gaps(torch.tensor([0.123456, float("nan")])) == [0.1235, None]
