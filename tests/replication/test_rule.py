"""The rule: the criterion holds for the mean of three seeds and in at least two of them."""

import math

import pytest

from loopscope.replication.rule import Status, mean, passes, status


def above(numbers):
    return numbers["x"] >= 1


def of(*values):
    return [{"x": value} for value in values]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1, 1, 1), "holds"),
        ((2, 2, 0), "holds"),  # mean 1.33, two of three
        ((1, 1, 0.5), "fails"),  # two of three, but the mean is .83
        ((9, 0, 0), "fails"),  # the mean is 3, but one of three
        ((0, 0, 0), "fails"),
        ((1, 1), "partly_run"),
        ((9,), "partly_run"),
        ((), "not_run"),
        ((2, 2, 2, 0), "holds"),  # of four, three are two thirds
        ((3, 3, 0, 0), "fails"),
        ((2, 2, math.nan), "fails"),  # the mean isn't a number
        ((2, 2, math.inf), "fails"),
    ],
)
def test_a_finding_holds_for_the_mean_and_in_two_of_three(values, expected):
    assert status(above, of(*values)) is Status[expected]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_never_passes(number):
    always = {"x": number, "y": 1.0}
    assert not passes(lambda numbers: True, always)
    assert not passes(lambda numbers: not numbers["x"] < 1, {"x": math.nan})


def test_a_missing_number_never_passes_and_has_no_mean():
    assert not passes(above, {"y": 2.0})
    assert not passes(lambda numbers: True, {})
    means = mean([{"x": 1.0, "y": 1.0}, {"x": 3.0}])
    assert means["x"] == 2 and math.isnan(means["y"])
    assert status(lambda n: n["x"] > 0, [{"x": 1.0}, {"x": 1.0, "y": 2.0}, {"x": 1.0}]) is Status.fails
