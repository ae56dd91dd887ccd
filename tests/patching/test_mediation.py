"""Direct and mediated effects: they add up where they must, and tell the way that an intervention
takes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import loopscope as ls
from loopscope.common.errors import LoopscopeError

from ..toys.known_circuit import CLASSES, CLUE, ITERATIONS, LAST, READ, WHERE, WRITE, written


def patched(k, position):
    """The written loop with another clue's state at one place, its run, and the metric of its
    answer."""
    run = written(12)
    other = run.tokens.clone()
    other[:, CLUE] = (other[:, CLUE] + 1) % CLASSES
    donor = ls.record(run.model, other)
    edit = ls.patch("state", iteration=k, value=donor.states[k], position=position)
    return run, ls.record(run.model, run.tokens, edits=[edit])


def logit(logits):
    return logits[:, LAST, 0]


def test_a_note_that_is_read_later_acts_through_the_iteration_that_reads_it():
    told = ls.mediation(*patched(WRITE + 2, WHERE), metric=logit)
    assert told.first == WRITE + 2 and told.total.abs().max() > 0.5
    assert told.direct.abs().max() < 1e-6
    through = torch.zeros_like(told.through)
    through[READ - told.first] = told.total
    assert torch.allclose(told.through, through, atol=1e-6)


def test_an_answer_that_stands_acts_directly():
    told = ls.mediation(*patched(READ + 1, LAST), metric=logit)
    assert torch.allclose(told.direct, told.total, atol=1e-6) and told.total.abs().max() > 0.5
    assert told.through.abs().max() < 1e-6


def test_a_write_to_the_last_state_has_no_other_way():
    model = ls.models.load("universal-prefix-parity")
    run, donor = (ls.record(model, model.task.batch(4, seed=seed).tokens, 6) for seed in (0, 1))
    edit = ls.patch("state", iteration=6, value=donor.states[6], position=[1, 5])
    told = ls.mediation(run, ls.record(model, run.tokens, 6, edits=[edit]))
    assert told.first == 6 and len(told.through) == 0
    assert torch.allclose(told.direct, told.total, atol=1e-5) and told.total.abs().max() > 0


def test_a_skipped_iteration_is_its_own_write_taken_away():
    run = written(12)
    told = ls.mediation(run, ls.record(run.model, run.tokens, edits=[ls.skip(READ)]), metric=logit)
    assert told.first == READ + 1 and torch.allclose(told.total, -run.output[:, LAST, 0], atol=1e-6)
    assert torch.allclose(told.direct, told.total, atol=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(0, 5))
def test_where_all_is_linear_the_parts_add_up(seed, n, k):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn((3, 3), generator=generator, dtype=torch.float64) / 2
    start = torch.randn((2, 4, 3), generator=generator, dtype=torch.float64)
    run = ls.iterate(lambda x: x @ matrix, start, n)
    edit = ls.add(
        "state",
        value=torch.randn(3, generator=generator, dtype=torch.float64),
        iteration=min(k, n),
        position=1,
    )
    edited = ls.iterate(lambda x: x @ matrix, start, n, edits=[edit])
    # the read-out of such a run is the state itself
    told = ls.mediation(run, edited, metric=lambda state: state[:, 1, 0])
    assert told.total.abs().max() > 0 and torch.allclose(
        told.remainder, torch.zeros_like(told.total), atol=1e-9
    )
    change = torch.as_tensor(edit.value).expand(2, 3)
    assert torch.allclose(told.direct, change[:, 0])
    later = change @ torch.linalg.matrix_power(matrix, n - min(k, n))
    assert torch.allclose(told.total, later[:, 0]) and torch.allclose(
        told.indirect, later[:, 0] - change[:, 0]
    )


def test_where_the_loop_is_not_linear_the_remainder_says_so():
    start = torch.full((1, 1, 1), 0.3, dtype=torch.float64)
    run, edited = (
        ls.iterate(lambda x: x * x, start, 2, edits=edits)
        for edits in ((), [ls.add("state", value=0.1, iteration=0)])
    )
    told = ls.mediation(run, edited, metric=lambda state: (state**2)[:, 0, 0])
    assert float(told.total) == pytest.approx(0.4**8 - 0.3**8)
    assert float(told.direct) == pytest.approx((0.3**4 + 0.1) ** 2 - 0.3**8)
    assert abs(float(told.remainder)) > 1e-4


def test_what_changes_nothing_has_no_effect():
    run = written(5)
    told = ls.mediation(
        run, ls.record(run.model, run.tokens, edits=[ls.add("state", value=0.0, iteration=2)])
    )
    assert told.first == ITERATIONS and not told.total.any() and not told.direct.any()


def test_it_prints_as_a_paragraph():
    told = ls.mediation(*patched(WRITE + 2, WHERE))
    assert str(told) == (
        "The intervention changes the state first after 4 iterations. Change, on average over 12 examples, "
        "of margin in logits: total -2, direct +0, through later iterations -2, most of it through "
        "iteration 5, remainder +0."
    )


def test_an_intervention_of_the_read_out_is_refused():
    model = ls.models.load("universal-prefix-parity")
    tokens = model.task.batch(4, seed=0).tokens
    run = ls.record(model, tokens, 4)
    with pytest.raises(LoopscopeError, match="must act inside the loop"):
        ls.mediation(run, ls.record(model, tokens, 4, edits=[ls.ablate("ln_final")]))
    with pytest.raises(LoopscopeError, match="must have the same iterations and shape"):
        ls.mediation(run, ls.record(model, tokens, 5))
