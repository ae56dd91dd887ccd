"""Budgets in words, and how they are shared."""

import math

import pytest

from loopscope.common.errors import LoopscopeError
from loopscope.common.price import Budget, Price, passes_text
from loopscope.reports.spending import Prices, allotted, level


@pytest.mark.parametrize(
    ("written", "passes", "seconds"),
    [
        (500, 500, None),
        (0.5, 0.5, None),
        ("500", 500, None),
        ("500 passes", 500, None),
        ("1 pass", 1, None),
        ("1,500 passes", 1500, None),
        ("1,234,567", 1234567, None),
        ("1e+16", 1e16, None),
        ("2.5E-5 s", None, 2.5e-5),
        ("90 s", None, 90),
        ("2 min", None, 120),
        ("1.5min", None, 90),
        (" 1 H ", None, 3600),
    ],
)
def test_a_budget_is_a_time_or_a_number_of_passes(written, passes, seconds):
    budget = Budget.of(written)
    assert (budget.passes, budget.seconds) == (passes, seconds)
    assert Budget.of(budget) == budget == Budget.of(budget.text)


@pytest.mark.parametrize("passes", [0.01, 0.995, 9.95, 99.4, 99.5, 99.55, 100, 999.5, 1e6])
def test_a_number_of_passes_in_words_is_read_back(passes):
    assert Budget.of(passes_text(passes)).passes == pytest.approx(passes, rel=0.05)


@pytest.mark.parametrize(
    "wrong",
    ["soon", "2 days", "-3 s", "", "0 s", 0, -1, math.inf, math.nan, True, None, "1,5 min", "1,50", "0,500 s"]
    + ["12,34,567", "1,5000", "1.5,000", "2e s", "1e999"],
)
def test_what_is_no_budget_is_refused_with_what_to_write(wrong):
    with pytest.raises(LoopscopeError, match='"90 s", "2 min" or "1 h", or forward passes such as 500'):
        Budget.of(wrong)


def test_a_time_is_as_many_passes_as_slow_ones_fit_into_it():
    assert Budget.of("60 s").in_passes(2.0) == 60 / 3 / 2
    assert Budget.of("60 s").in_passes(0.0) > 1e9
    assert Budget.of(7).in_passes(2.0) == 7


def test_numbers_of_passes_in_words():
    assert [passes_text(n) for n in (0, 0.001, 0.25, 1, 12.3, 1234.5)] == [
        "0 passes", "less than 0.01 passes", "0.25 passes", "1 pass", "12 passes", "1,234 passes",
    ]  # fmt: skip
    assert Price(3.0).text == "3 passes"


@pytest.mark.parametrize("amount", [0.0, 0.5, 3.0, 10.0, 17.0, 40.0])
@pytest.mark.parametrize("prices", [[1.0], [1.0, 2.0, 30.0], [5.0, 5.0, 5.0], [0.0, 9.0, 9.0, 1.0]])
def test_an_amount_is_shared_evenly_among_those_that_cost_more_and_never_exceeded(prices, amount):
    part = level(prices, amount)
    assert sum(min(price, part) for price in prices) == pytest.approx(min(sum(prices), amount))
    assert (part == math.inf) == (sum(prices) <= amount)


@pytest.mark.parametrize("amount", [0.0, 0.5, 3.0, 10.0, 17.0, 40.0])
def test_as_many_as_can_be_are_paid_their_least_and_the_rest_is_shared(amount):
    prices = {"a": Prices(5.0, 9.0), "b": Prices(1.0, 30.0), "c": Prices(6.0, 6.0), "d": Prices(0.0, 0.0)}
    parts = {name: allotted(prices, amount, name) for name in prices}
    taken = [min(parts[name], price.whole) for name, price in prices.items() if parts[name] >= price.least]
    assert sum(taken) <= amount + 1e-9
    count = sum(sum(sorted(price.least for price in prices.values())[:n]) <= amount for n in (1, 2, 3, 4))
    assert len(taken) == count, "the cheapest, however much more each would take"
    if count == 4:
        assert sum(taken) == pytest.approx(min(amount, 45.0))
