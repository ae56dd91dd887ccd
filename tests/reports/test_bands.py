"""Bands in figures: an interval is drawn between its ends, with a gap where it isn't known."""

import torch

from loopscope.plots import style
from loopscope.plots.bands import add_band, with_gaps


def test_the_upper_end_is_drawn_first_and_the_lower_filled_up_to_it():
    figure = style.empty("title", "x", "y")
    add_band(figure, (0, 2, 3), torch.tensor([0.0, 0.5, float("nan")]), torch.tensor([1.0, 2.0, 3.0]))
    high, low = figure.data
    assert high.y == (1, 2, 3) and low.y == (0, 0.5, None) and low.x == high.x == (0, 2, 3)
    assert high.fill is None and low.fill == "tonexty"


def test_numbers_are_rounded_and_nan_is_a_gap():
    assert with_gaps(torch.tensor([0.123456, float("nan")])) == [0.1235, None]
