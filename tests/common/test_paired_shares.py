"""The interval of a difference of two shares of the same examples."""

import math

import pytest

from loopscope.common.paired_shares import paired_difference


def test_without_a_difference_the_interval_is_as_wide_as_one_example_either_way():
    one = paired_difference("change", 0, 0, 998)
    assert one.value == 0
    assert one.high == -one.low == pytest.approx(1.959964 / 1000, rel=1e-6)


def test_it_is_walds_for_many_examples_and_mirrors_gains_and_losses():
    one, other = (
        paired_difference("change", 300, 200, 100_000),
        paired_difference("change", 200, 300, 100_000),
    )
    error = math.sqrt(500 - 100**2 / 100_000) / 100_000
    assert one.value == pytest.approx(0.001)
    assert (one.high - one.low) / 2 == pytest.approx(1.959964 * error, rel=2e-3)
    assert (other.value, other.low, other.high) == pytest.approx((-one.value, -one.high, -one.low))


def test_it_covers_the_true_difference_in_19_of_20_samples():
    """Of 60 examples, with a 6 % chance of a gain and 2 % of a loss."""
    n, gain, loss, covered = 60, 0.06, 0.02, 0.0
    for gained in range(25):
        for lost in range(15):
            chance = (
                math.comb(n, gained) * math.comb(n - gained, lost)
                * gain**gained * loss**lost * (1 - gain - loss) ** (n - gained - lost)
            )  # fmt: skip
            one = paired_difference("change", gained, lost, n)
            covered += chance * (one.low <= gain - loss <= one.high)
    assert 0.94 < covered < 0.98


def test_of_no_examples_nothing_is_known():
    one = paired_difference("change", 0, 0, 0)
    assert all(math.isnan(value) for value in (one.value, one.low, one.high))
