"""The bounds of JSON: what is within them is read as it was written, what is one beyond is
refused."""

import pytest

from loopscope.common.errors import LoopscopeError
from loopscope.common.json_text import MOST_DIGITS, MOST_NESTING, read_json, write_json


def nested(opening: str, closing: str, depth: int) -> str:
    return opening * depth + "1" + closing * depth


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("beyond", [1, 100, 100_000])
def test_nesting_is_read_up_to_its_bound(opening, closing, beyond):
    value = read_json(nested(opening, closing, MOST_NESTING), "a header")
    assert read_json(write_json(value, "a header"), "a header") == value
    with pytest.raises(LoopscopeError, match=f"a header must be JSON, with at most {MOST_NESTING} lists"):
        read_json(nested(opening, closing, MOST_NESTING + beyond), "a header")


def test_what_is_nested_more_deeply_is_not_written():
    value = 1
    for _ in range(MOST_NESTING + 1):
        value = [value]
    with pytest.raises(LoopscopeError, match="such that JSON can hold it"):
        write_json(value, "a header")


@pytest.mark.parametrize("sign", ["", "-"])
def test_a_number_is_read_up_to_its_digits(sign):
    longest = sign + "9" * (MOST_DIGITS - len(sign))
    assert read_json(longest, "a header") == int(longest)
    with pytest.raises(LoopscopeError, match="a number of"):
        read_json(sign + "9" * (MOST_DIGITS + 1), "a header")
