"""The loop of `written` is what it says."""

import pytest
import torch

import loopscope as ls

from ..toys.known_circuit import (
    ANSWER,
    CLUE,
    IDLE,
    LAST,
    NOTE,
    READ,
    UNREAD,
    WHERE,
    WRITE,
    Written,
    tokens,
    written,
)


def test_the_last_position_answers_with_the_clue_from_the_iteration_that_reads_on():
    run = written()
    for k in range(run.iterations + 1):
        said = run.logits[k][:, LAST]
        clue = torch.nn.functional.one_hot(run.tokens[:, CLUE], 4).float()
        assert torch.allclose(said, clue * (k > READ), atol=1e-5)


def test_the_facts_are_in_the_state_where_and_when_it_says():
    run = written()
    facts = [(NOTE, CLUE), (UNREAD, IDLE), (ANSWER, CLUE)]
    for k in range(run.iterations + 1):
        channels = run.model.channels(run.states[k])
        for block, fact in facts:
            one = torch.nn.functional.one_hot(run.tokens[:, fact], 4).float()
            held = (channels[..., block] * one[:, None]).sum(-1)
            wanted = torch.zeros_like(held)
            if k > WRITE and block == NOTE:
                wanted[:, WHERE] = 1
            if k > WRITE and block == UNREAD:
                wanted[:] = 1
            if k > READ and block == ANSWER:
                wanted[:, LAST] = 1
            assert torch.allclose(held, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("k", "position", "changes"),
    [(WRITE, WHERE, 0), (WRITE + 1, WHERE, 1), (READ, WHERE, 1), (READ + 1, WHERE, 0), (READ, LAST, 0),
     (READ + 1, LAST, 1), (WRITE + 1, IDLE, 0), (READ + 1, IDLE, 0)],
)  # fmt: skip
def test_a_patched_state_brings_the_donors_answer_only_between_writing_and_reading(k, position, changes):
    run, donor = written(seed=0), written(seed=1)
    swap = ls.patch("state", iteration=k, value=donor.states[k], position=position)
    said = ls.record(run.model, run.tokens, edits=[swap]).logits[-1][:, LAST]
    assert torch.allclose(said, (donor if changes else run).logits[-1][:, LAST], atol=1e-5)


def test_its_hooks_are_hooks_and_its_gradients_tell_the_whole_effect():
    model, given = Written().eval(), tokens(8)
    seen = {}
    model.run_with_hooks(given, fwd_hooks=[("core.hook_move", lambda value, hook: seen.update(moved=value))])
    assert seen["moved"].abs().sum() == 0  # the last iteration moves nothing
    run = ls.record(model, given, grad=True)
    wanted = run.logits[-1][:, LAST, 0].sum()
    (slope,) = torch.autograd.grad(wanted, run.states[READ])
    assert slope[:, WHERE].abs().amax() > 0.1 and slope[:, :WHERE].abs().amax() == 0
