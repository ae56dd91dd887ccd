"""Copy and reverse: the answer is Python's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loopscope import tasks
from loopscope.common.errors import LoopscopeError

BOTH = pytest.mark.parametrize("make", [tasks.copy, tasks.reverse])


def read(task, text):
    return torch.tensor([[task.symbols.index(symbol) for symbol in text]])


@given(string=st.text("abcdefgh", min_size=1, max_size=20))
@settings(max_examples=60)
def test_a_string_is_copied_or_reversed(string):
    blanks = "_" * len(string)
    for task, answer in ((tasks.copy(), string), (tasks.reverse(), string[::-1])):
        tokens = read(task, f"{string}={blanks}")
        assert task.render(task.solve(tokens)) == [f"{string}={answer}"]
        assert task.render(tokens[task.mask(tokens)][None]) == [blanks]


@BOTH
def test_reversing_twice_and_copying_change_nothing(make):
    task = make(length=7)
    batch = task.batch(50, seed=0)
    again = torch.cat([batch.targets[:, 8:], batch.tokens[:, 7:]], dim=1)
    assert torch.equal(task.solve(again)[:, 8:], batch.tokens[:, :7])


@BOTH
def test_difficulty_is_the_length_and_letters_are_drawn_evenly(make):
    batch = make(length=9, letters=5).batch(2000, seed=0)
    assert batch.difficulty.unique().tolist() == [9]
    shares = torch.bincount(batch.tokens[:, :9].flatten(), minlength=5) / 18_000
    assert (shares - 0.2).abs().max() < 0.02


@BOTH
def test_what_is_no_string_to_fill_in(make):
    task = make(letters=3)
    for text in ("ab=_", "ab__=", "a=b__", "=", "ab=_a", "abb__"):
        with pytest.raises(
            LoopscopeError, match=r"needs letters, '=' \(token 3\) and as many blanks '_' \(token 4\)"
        ):
            task.solve(read(task, text))
    with pytest.raises(LoopscopeError, match="letters must be at most 26, but are 27"):
        make(letters=27)
