"""Verdicts hold: on other examples of the same task they are the same, or unclear."""

import pytest

from loopscope.reports.repeated_verdicts import holds, is_unclear, repeated_verdicts, verdicts_page


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["a"] * 10, True),
        (["a"] * 9 + ["b"], True),
        (["a"] * 8 + ["b"] * 2, False),
        (["a"] * 8 + ["b", "c"], False),
        (["a"] * 5 + ["unclear"] * 4 + ["b"], True),
        (["unclear"] * 10, True),
        (["a", "b"], False),  # of fewer than ten, none may differ
    ],
)
def test_nine_of_ten_verdicts_are_the_same_or_unclear(verdicts, expected):
    assert holds(verdicts) is expected


def test_a_pair_is_unclear_where_most_of_its_verdicts_are():
    assert is_unclear(["unclear"] * 6 + ["a"] * 4)
    assert not is_unclear(["unclear"] * 5 + ["a"] * 5)


def test_the_page_counts_what_holds_and_names_what_does_not():
    page = verdicts_page({"one": {"x": ["a"] * 8 + ["b"] * 2, "y": ["unclear"] * 10}})
    assert "- 1 of 2 pairs of entry and analysis hold; these don't: x of one." in page
    assert "- 1 of 2 (50%) are unclear in most batches." in page
    assert "| one | a 8, b 2 |" in page


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["huginn-hops", "ponder-parity", "recall-internal"])
def test_the_verdicts_of_an_entry_hold_over_ten_batches(entry):
    verdicts = repeated_verdicts(entry)
    assert len(verdicts) >= 12
    assert not [(name, v) for name, v in verdicts.items() if not holds(v)]
