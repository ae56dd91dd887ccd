"""Donors from the run itself: each example gets the next that answers otherwise."""

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.patching.donors import donor_pairs, two_donors
from loopscope.recorder.subset import select_examples

from ..adapters import test_adapters
from ..models import test_zoo
from ..toys.known_circuit import (
    CLUE,
    LAST,
    Written,
    tokens,
    written,
)

ZOO, WRAPPED = test_zoo.CASES, test_adapters.CASES


def test_every_example_gets_the_next_that_answers_otherwise():
    run = written(30)
    own, donor, rows = donor_pairs(run)
    answers = run.output[:, LAST].argmax(-1)
    assert rows == list(range(30)) and torch.equal(own.output, run.output)
    for row in rows:
        steps = [s for s in range(1, 30) if answers[(row + s) % 30] != answers[row]]
        assert torch.equal(donor.tokens[row], run.tokens[(row + steps[0]) % 30])


def test_the_second_donor_is_the_one_after():
    run = written(30)
    own, first, second, rows, others = two_donors(run)
    answers = run.output[:, LAST].argmax(-1)
    assert rows == list(range(30)) and others == 30 and torch.equal(own.output, run.output)
    for row in rows:
        steps = [s for s in range(1, 30) if answers[(row + s) % 30] != answers[row]]
        assert torch.equal(first.tokens[row], run.tokens[(row + steps[0]) % 30])
        assert torch.equal(second.tokens[row], run.tokens[(row + steps[1]) % 30])


def test_where_there_is_no_second_donor_it_is_the_first():
    given = tokens(3)
    given[:, CLUE] = torch.tensor([0, 0, 1])
    _, first, second, rows, others = two_donors(ls.record(Written().eval(), given))
    assert rows == [0, 1, 2] and others == 1
    assert torch.equal(first.tokens[:2], second.tokens[:2])
    assert not torch.equal(first.tokens[2], second.tokens[2])


def test_examples_that_all_answer_alike_have_no_donors():
    given = tokens(5)
    given[:, CLUE] = 2
    with pytest.raises(LoopscopeError, match="all examples of this run answer alike"):
        donor_pairs(ls.record(Written().eval(), given))


def test_a_part_of_a_run_is_the_run_of_that_part():
    model = ls.models.load("universal-prefix-parity-act")
    tokens = model.task.batch(6, seed=0).tokens
    run = select_examples(ls.record(model, tokens, 8, sites=["core.0.attn.hook_z"]), [4, 1, 4])
    again = ls.record(model, tokens[[4, 1, 4]], 8, sites=["core.0.attn.hook_z"])
    for name in again.names:  # alone they may leave the loop earlier
        for k in again[name].iterations:
            assert torch.allclose(run[name][k], again[name][k], atol=1e-5)
    assert torch.allclose(run.logits[3], again.logits[3], atol=1e-5)
    assert torch.equal(run.halting.iteration, again.halting.iteration)
    with pytest.raises(LoopscopeError, match="which may be of other"):
        select_examples(ls.record(model, tokens, edits=[ls.skip(1)]), [0])
