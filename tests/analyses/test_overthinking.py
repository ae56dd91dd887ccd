"""Overthinking on answers that are right or wrong by construction: detected where it happens, and
nowhere else."""

import pytest
import torch

import loopscope as ls
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError

from ..toys.table_loop import planted
from .test_halting import TASK

N, BATCH = 12, 64
K = torch.arange(N + 1)[:, None, None]


def overthinking_of(right, depth=4, **options):
    batch = TASK.batch(BATCH, seed=0)
    right = right.expand(N + 1, BATCH, 9)
    return ls.analyses.measure("overthinking", planted(right, TASK, batch, depth=depth), **options)


def test_answers_that_are_lost_after_the_best_iteration_are_counted():
    lost = torch.arange(BATCH) < 24
    result = overthinking_of((K >= 3) & ((K < 9) | ~lost[None, :, None]))
    assert result.verdict.name == "worse"
    assert result.drop.lost == 24 * 8 and result.drop.gained == 0
    assert result.drop.p == pytest.approx(0.5**24), "24 examples lose, none gains"
    assert result.to_wrong.tolist() == [0] * 8 + [24 * 8] + [0] * 3
    assert result.late_flips == 24 * 8


def test_nothing_is_invented_on_a_model_at_its_fixed_point():
    result = overthinking_of((K >= 3) & (torch.arange(BATCH) < 40)[None, :, None])
    assert result.verdict.name == "steady"
    assert (result.drop.lost, result.drop.gained, result.late_flips, result.drop.p) == (0, 0, 0, 1)


def test_answers_that_are_always_guessed_are_called_worse_no_oftener_than_the_test_allows():
    alarms, chances = 0, []
    for seed in range(40):
        guess = torch.rand(N + 1, BATCH, 9, generator=torch.Generator().manual_seed(seed)) < 0.5
        result = overthinking_of(guess)
        alarms += result.verdict.name != "steady"
        chances.append(result.drop.p)
        assert int(result.to_wrong[1:].sum()) > 1000, "though they flip all the time"
    assert alarms <= 4, (
        "three tests at 0.01 in each of 40 runs: 1.2 are expected, more than 4 in 1 of 100 tries"
    )
    # Were the best iteration chosen on the examples that it is tested on, most of these would be
    # small.
    assert sorted(chances)[20] > 0.42


@pytest.mark.parametrize("seed", range(4))
def test_lucky_hits_before_the_answer_has_formed_are_no_overthinking(seed):
    lucky = torch.rand(N + 1, BATCH, 9, generator=torch.Generator().manual_seed(seed)) < 0.5
    formed = torch.rand(BATCH, 9, generator=torch.Generator().manual_seed(100 + seed)) < 0.9
    result = overthinking_of(torch.where(K < 5, lucky, formed), depth=6)
    assert result.verdict.name == "steady" and result.drop.lost == 0


def test_what_still_gets_better_beyond_its_depth_is_said_so():
    result = overthinking_of((K >= 3) & ((K >= 8) | (torch.arange(BATCH) < 40)[None, :, None]))
    assert result.verdict.name == "improves" and result.growth.gained == 24 * 8


def test_a_difficulty_that_gets_worse_is_found_where_others_get_better():
    hard = TASK.batch(BATCH, seed=0).difficulty
    level, count = hard.unique(return_counts=True)
    worst = level[count.argmax()]
    falls = (hard == worst)[None, :, None]
    result = overthinking_of(torch.where(falls, (K >= 2) & (K < 8), K >= 8))
    assert result.verdict.name == "worse_in_part"
    assert [bool(change.p < 0.01) for change in result.drops] == (level == worst).tolist()


def test_the_run_goes_on_to_three_times_the_models_depth():
    model = ls.models.build("universal", width=16, vocabulary=3, iterations=6).eval()
    model.task = TASK
    run = ls.record(model, TASK.batch(8, seed=0).tokens, 4)
    result = ls.analyses.measure("overthinking", run)
    assert len(result.accuracy) == 19 and result.recorded == 4 and "continued to 18" in str(result)
    whole = ls.record(model, TASK.batch(8, seed=0).tokens, 18)
    assert torch.equal(result.accuracy, ls.analyses.measure("overthinking", whole).accuracy)
    assert len(ls.analyses.measure("overthinking", run, iterations=10).accuracy) == 11


def test_the_margin_is_that_of_the_right_answer():
    result = overthinking_of(K >= 3)
    assert result.margin[2] == pytest.approx(-4) and result.margin[3] == pytest.approx(4)


def test_it_draws_itself_and_says_its_threshold():
    result = overthinking_of(K >= 3)
    assert len(discovery.module("analyses", "overthinking").panels(result)) == 3
    assert "p below 0.01" in str(result) and '"verdict"' in result.to_json()


def test_a_run_without_known_answers_gets_a_sentence():
    model = ls.models.build("universal", width=16, vocabulary=3).eval()
    run = ls.record(model, TASK.batch(8, seed=0).tokens, 4)
    with pytest.raises(LoopscopeError, match="overthinking needs a run of 3 iterations or more on examples"):
        ls.analyses.measure("overthinking", run)
