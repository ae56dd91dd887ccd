"""Further examples of a run's task follow from the run: another run gets others."""

from dataclasses import dataclass

import pytest
import torch

import loopscope as ls
from loopscope.recorder.further_examples import further_examples
from loopscope.recorder.run_score import score_of

TASK = ls.tasks.prefix_parity(length=8)


@pytest.fixture(scope="module")
def model():
    model = ls.models.build("universal", width=8, heads=2, iterations=3, vocabulary=TASK.vocabulary, seed=0)
    model.task = TASK
    return model.eval()


def more(model, tokens, count=40, **options):
    return further_examples(ls.record(model, tokens), count, **options)


def test_two_batches_get_different_examples_and_one_batch_the_same_again(model):
    one, other = (TASK.batch(4, seed=seed).tokens for seed in (0, 1))
    first = more(model, one)
    assert first.tokens.shape == (40, 9) and first.iterations == 3
    assert torch.equal(first.tokens, more(model, one).tokens)
    assert not torch.equal(first.tokens, more(model, other).tokens)
    assert not torch.equal(first.tokens, more(model, one, seed=1).tokens)


def test_what_the_run_recorded_and_how_deep_is_kept(model):
    run = ls.record(model, TASK.batch(4, seed=0).tokens, 5)
    site = "core.0.hook_resid_post"
    larger = further_examples(run, 12, site=site)
    assert larger.iterations == 5 and larger[site][0].shape[0] == 12


def test_there_are_none_for_a_run_that_is_large_enough_edited_or_of_no_task(model):
    tokens = TASK.batch(4, seed=0).tokens
    assert more(model, tokens, 4) is None
    assert further_examples(ls.record(model, tokens, edits=[ls.skip(1)]), 40) is None
    assert further_examples(ls.iterate(lambda x: x / 2, torch.ones(4, 3), 5), 40) is None
    assert more(model, tokens[:, :5]) is None, "the task's examples have another length"


@dataclass(frozen=True)
class Negated(type(TASK)):
    """The same strings with the other answer to each."""

    def solve(self, tokens):
        return torch.where(tokens == 2, tokens, 1 - super().solve(tokens))


def test_another_task_has_its_own_examples_and_score(model):
    """What a run remembers of one task isn't taken for another's."""
    run = ls.record(model, TASK.batch(4, seed=0).tokens)
    examples, score = further_examples(run, 12), score_of(run)
    other = Negated(length=8)
    try:
        model.task = other
        assert further_examples(run, 12) is not examples
        assert score_of(run).task is other and not score_of(run).correctness.equal(score.correctness)
    finally:
        model.task = TASK
    assert score_of(run) is score and further_examples(run, 12) is examples
