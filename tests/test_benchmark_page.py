"""The page of the benchmarks says what was timed, as ratios of times taken in the same round."""

import pytest

from .benchmarks.interleaved import Times, interleaved
from .benchmarks.page import Comparison, Value, page

HAND = Times(processor=(1.0, 2.0, 4.0), wall=(2.0, 2.0, 2.0))
OURS = Times(processor=(1.5, 3.0, 6.0), wall=(3.0, 4.0, 5.0))


def test_a_slow_spell_doesnt_change_a_ratio():
    assert OURS.ratios(HAND) == [1.5, 1.5, 1.5]
    assert OURS.wall_ratio(HAND) == 2


def test_each_way_is_called_as_often_as_the_others():
    calls = []
    ways = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = interleaved(ways, rounds=4, at_least=0)
    assert {name: calls.count(name) for name in "abc"} == {"a": 6, "b": 6, "c": 6}
    assert calls[6:9] == ["a", "b", "c"]
    assert calls[9:12] == ["b", "c", "a"]
    assert all(len(of_way.processor) == 4 for of_way in times.values())


def test_the_page_has_ways_values_and_goals():
    rows = [
        Comparison("Copies.\n\nOf one thing.\n", "a copy", {"by hand": HAND, "loopscope": OURS}, "goal 1.2"),
        Value("Copies.\n\nOf one thing.\n", "bytes", 12.0, "goal under 20"),
    ]
    text = page(rows)
    assert "## Copies\n\nOf one thing.\n" in text
    assert "**a copy** (goal 1.2)" in text
    assert "| loopscope | 3000 | 1.500 (1.500 to 1.500) | 2.000 |" in text
    assert "| bytes | 12 | under 20 |" in text
    assert "failed" not in text


@pytest.mark.parametrize(("failed", "words"), [(1, "1 benchmark failed"), (2, "2 benchmarks failed")])
def test_the_page_says_what_failed(failed, words):
    assert words in page([Value("Copies.\n", "bytes", 12.0, "no goal")], failed)
