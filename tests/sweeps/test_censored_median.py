"""The median of censored values, against numpy's median and scipy's Kaplan-Meier curve."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import CensoredData, ecdf

from loopscope.sweeps.censored_median import censored_median

times = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@settings(max_examples=25)
@given(times)
def test_of_values_that_are_all_known_the_median_is_the_median(values):
    result = censored_median(values)
    assert result.value == pytest.approx(np.median(values))
    assert min(values) <= result.low <= result.value <= result.high <= max(values)


@settings(max_examples=25)
@given(times, st.integers(1, 6))
def test_who_never_generalised_makes_the_median_later_and_never_earlier(values, count):
    """Waiting longer than everyone who did: as an infinite delay would."""
    result = censored_median(values, [max(values) + 1] * count)
    expected = np.sort([*values, *[np.inf] * count])[
        [(len(values) + count - 1) // 2, (len(values) + count) // 2]
    ]
    assert result.value == (None if np.isinf(expected[1]) else pytest.approx(expected.mean()))
    assert result.high is None or result.high >= result.value


@settings(max_examples=50)
@given(times, st.lists(st.integers(1, 40), max_size=6))
def test_the_median_is_where_kaplan_and_meiers_curve_crosses_a_half(values, bounds):
    """The curve as scipy computes it."""
    waiting = ecdf(CensoredData(uncensored=values, right=bounds)).sf
    result = censored_median(values, bounds).value
    if result is None:
        assert waiting.probabilities[-1] >= 0.5 - 1e-9
    else:
        assert waiting.evaluate(result + 0.25) <= 0.5 + 1e-9
        assert waiting.evaluate(result - 0.25) >= 0.5 - 1e-9


def test_a_bound_below_the_known_values_says_nothing_about_their_order():
    """By hand: of 4, one left at 1; the other three halve at the second of them."""
    assert censored_median([10.0, 20.0, 30.0], [1.0]).value == 20.0
    assert censored_median([], [5.0]).value is None
    assert censored_median([]) is None
