"""Parity with a varying number of ones: asked once, drawn evenly over the number of ones."""

import pytest
import torch

from loopscope import tasks
from loopscope.common.errors import LoopscopeError


def test_the_answer_is_the_parity_of_the_ones():
    batch = tasks.parity_ones(length=23).batch(300, seed=5)
    for tokens, targets, mask in zip(
        batch.tokens.tolist(), batch.targets.tolist(), batch.mask.tolist(), strict=True
    ):
        assert tokens[-1] == 2 and mask == [False] * 23 + [True]
        assert targets[-1] == sum(tokens[:-1]) % 2
    assert batch.difficulty.tolist() == [row[:-1].count(1) for row in batch.tokens.tolist()]


def test_a_question_written_by_hand():
    task = tasks.parity_ones()
    tokens = torch.tensor([[0, 1, 1, 0, 1, 2]])
    assert task.render(tokens) == ["01101?"]
    assert task.render(task.solve(tokens)) == ["011011"]


def test_numbers_of_ones_are_drawn_evenly_and_their_places_too():
    task = tasks.parity_ones(length=32)
    batch = task.batch(8000, seed=0, split="train")
    inner = torch.tensor([int((batch.difficulty == n).sum()) for n in range(2, 31)])  # 1, 31, 32: few strings
    assert (inner - 250).abs().max() < 70
    halves = batch.tokens[batch.difficulty == 16, :32].float().mean(0)
    assert (halves - 0.5).abs().max() < 0.15


def test_ones_can_be_few_or_fixed():
    task = tasks.parity_ones(length=24, most=12)
    assert task.batch(500, seed=0).difficulty.max() == 12
    assert task.batch(20, seed=0, ones=20).difficulty.unique().tolist() == [20]
    assert task.batch(500, seed=0, most=24).difficulty.max() > 20
    assert tasks.parity_ones(ones=7).batch(20, seed=0).difficulty.unique().tolist() == [7]


def test_all_strings_with_an_even_number_of_ones_are_reached():
    task = tasks.parity_ones(length=8, ones=4)
    both = [{tuple(row) for row in task.batch(3000, 0, split).tokens.tolist()} for split in ("train", "test")]
    assert len(both[0] | both[1]) == 70 and not both[0] & both[1]


def test_what_is_no_question():
    for tokens in ([0, 1, 1], [2, 0, 1], [0, 2, 2]):
        with pytest.raises(
            LoopscopeError, match=r"strings of bits that end with the question '\?' \(token 2\)"
        ):
            tasks.parity_ones().solve(torch.tensor([tokens]))
    with pytest.raises(LoopscopeError, match="ones must be at most its length, 8, but is 9"):
        tasks.parity_ones(length=8).batch(2, seed=0, ones=9)
    with pytest.raises(LoopscopeError, match="most must be a whole number, 1 or more"):
        tasks.parity_ones(most=0)
    with pytest.raises(LoopscopeError, match="at least 32 different examples .* has 16 with length=16"):
        tasks.parity_ones(length=16).batch(2, seed=0, ones=16 - 1)
