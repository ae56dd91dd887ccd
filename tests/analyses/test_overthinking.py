"""Overthinking on answers that are right or wrong by construction: detected where it happens, and
nowhere else."""

import math

import pytest
import torch

import loopscope as ls
from loopscope.analyses.overthinking.accuracy_change import (  # pyright: ignore[reportMissingImports]
    change_of,
    unseen_interval,
)
from loopscope.analyses.overthinking.measure import verdict_on  # pyright: ignore[reportMissingImports]
from loopscope.analyses.overthinking.result import OverthinkingVerdict  # pyright: ignore[reportMissingImports]
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError
from loopscope.common.evidence import share_interval
from loopscope.recorder.run_depth import depth_of
from loopscope.recorder.run_score import score_of

from ..toys.table_loop import planted
from .test_halting import TASK, halting_model

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
    assert result.drop.lost == result.growth.lost == 24 * 8 and result.growth.gained == 0
    assert result.growth.change == pytest.approx(-24 / 64) and result.growth.changed.value == 24 / 64
    assert result.growth.low < -24 / 64 < result.growth.high < -0.2
    assert result.to_wrong.tolist() == [0] * 8 + [24 * 8] + [0] * 3
    assert result.late_flips == 24 * 8


def test_nothing_is_invented_on_a_model_at_its_fixed_point():
    result = overthinking_of((K >= 3) & (torch.arange(BATCH) < 40)[None, :, None])
    assert result.verdict.name == "steady"
    assert (result.growth.lost, result.growth.gained, result.late_flips) == (0, 0, 0)
    unseen = share_interval(0, 64)[1]  # of other examples so many may change
    assert (result.growth.low, result.growth.high) == pytest.approx((-unseen, unseen))
    assert "None of the 64 examples changes" in str(result) and "0 % to 6 %" in str(result)
    assert result.sentence.endswith("These examples say so to within 5.7 points of accuracy.")
    assert " p = " not in str(result), "no test whose p value could be 1"


def test_answers_that_are_always_guessed_are_called_worse_or_better_no_oftener_than_by_chance():
    names = []
    for seed in range(40):
        guess = torch.rand(N + 1, BATCH, 9, generator=torch.Generator().manual_seed(seed)) < 0.5
        result = overthinking_of(guess)
        names.append(result.verdict.name)
        assert int(result.to_wrong[1:].sum()) > 1000, "though they flip all the time"
    assert set(names) <= {"unclear", "worse", "worse_in_part", "improves", "steady"}
    # Steady would need an interval of less than 4 points, but it is about 12 wide.
    assert "steady" not in names and names.count("unclear") >= 35


def test_a_few_answers_that_come_and_go_are_steady_only_within_the_margin():
    few = torch.arange(BATCH) % 16 == 0  # 4 of 64 examples lose one of eight answers: 0.8 points
    one = (torch.arange(9) == 4)[None, None]
    assert overthinking_of((K >= 3) & ~((K > 8) & few[None, :, None] & one)).verdict.name == "steady"
    many = torch.arange(BATCH) % 4 == 0  # 16 of 64 lose one: 3.1 points, 1.6 to 4.7
    result = overthinking_of((K >= 3) & ~((K > 8) & many[None, :, None] & one))
    assert result.verdict.name == "unclear"
    assert {v.name for v in result.evidence.alternatives} == {"steady", "worse"}
    assert result.growth.low < -0.02 < result.growth.high < 0 and "allow both" in result.sentence


def test_a_peak_before_the_models_own_depth_is_a_verdict_of_its_own():
    result = overthinking_of((K >= 2) & (K < 5), depth=8)
    assert result.verdict.name == "peaked" and result.drop.change == -1 and result.growth.change == 0


def test_few_examples_give_no_verdict_and_one_no_interval():
    for size in (1, 11):
        batch = TASK.batch(size, seed=0)
        right = (K >= 3).expand(N + 1, size, 9)
        result = ls.analyses.measure("overthinking", planted(right, TASK, batch, depth=4))
        assert result.verdict.name == "unclear" and "too few" in result.sentence
        assert len(discovery.module("analyses", "overthinking").panels(result)) == 3
        assert "nan" not in str(result) and "unknown" not in str(result)
    assert overthinking_of(K >= 3).verdict.name == "steady"


def test_a_loop_that_ends_by_itself_cannot_overthink():
    run = ls.record(halting_model(bias=-2.0, gate=0.0), TASK.batch(16, seed=0).tokens, 12)
    result = ls.analyses.measure("overthinking", run)
    assert 3 <= len(result.accuracy) - 1 <= result.depth and result.verdict.name == "ended"
    assert discovery.module("analyses", "overthinking").headline(result)[0] == "none possible"


def test_a_change_that_is_unknown_falls_through_to_no_verdict():
    assert [verdict_on(x, 0.0).name for x in (math.nan, -1.0, -0.02, -0.0199, 0.0, 0.0199, 0.02, 1.0)] == [
        "unclear", "worse", "worse", "steady", "steady", "steady", "improves", "improves"
    ]  # fmt: skip
    assert verdict_on(0.0, math.nan) is OverthinkingVerdict.unclear
    assert verdict_on(0.0, -0.02) is OverthinkingVerdict.peaked
    assert verdict_on(0.5, 0.0, [math.nan, -0.02]) is OverthinkingVerdict.worse_in_part
    assert verdict_on(0.0, 0.0, [math.nan, -0.01]) is OverthinkingVerdict.steady


@pytest.mark.parametrize("lost", [0.0, 0.01, 0.03])
def test_the_interval_of_a_change_holds_for_examples_that_were_not_seen(lost):
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(200):  # one answer to an example
        after = torch.rand(64, generator=generator) >= lost
        change = change_of(torch.ones(64, dtype=torch.bool), after, torch.arange(64), (4,))
        hits += change.low <= -lost <= change.high
    assert hits >= 186, "a bootstrap alone covers 0.01 in half of the batches"


def test_few_single_answers_are_not_steady_though_none_of_them_changes():
    for size, expected in ((32, "unclear"), (64, "steady")):
        batch = TASK.batch(size, seed=0)
        right = (K >= 3).expand(N + 1, size, 9)
        result = ls.analyses.measure("overthinking", planted(right, TASK, batch, depth=4))
        assert result.verdict.name == expected
    assert unseen_interval(torch.zeros(32).double())[1] > 0.1


def test_its_accuracy_is_the_one_that_a_page_quotes():
    model = ls.models.load("universal-prefix-parity")
    run = ls.record(model, model.task.batch(32, seed=3).tokens)
    score, result = score_of(run), ls.analyses.measure("overthinking", run)
    row = score.row(result.depth)
    assert float(result.accuracy[result.depth]) == float(score.mean().value[row])
    assert result.growth.first == pytest.approx(float(score.mean().value[row]))


def test_the_best_iterations_are_named_one_by_one():
    late = torch.arange(BATCH) % 2 == 1  # one half is best after 4 iterations, the other after 6
    right = torch.where(late[None, :, None], (K >= 2) & (K < 7), (K >= 2) & (K < 5))
    result = overthinking_of(right, depth=9)
    assert result.drop.before == (4, 6) and "on the other (4 and 6)" in str(result)


CASES = {
    "worse": (K >= 3) & (K < 9),
    "worse_in_part": None,
    "peaked": (K >= 1) & (K < 4),
    "improves": K >= 8,
    "steady": K >= 3,
    "ended": None,
    "unclear": torch.rand(N + 1, BATCH, 9, generator=torch.Generator().manual_seed(0)) < 0.5,
}
"""None: in a test of its own."""


@pytest.mark.parametrize("verdict", OverthinkingVerdict)
def test_every_verdict_is_reached_and_draws_itself(verdict):
    case = CASES[verdict.name]
    if case is None:
        return
    result = overthinking_of(case)
    assert result.verdict is verdict and result.evidence.examples == BATCH
    value, caption = discovery.module("analyses", "overthinking").headline(result)
    assert value.endswith("points") and len(caption) < 60
    assert len(discovery.module("analyses", "overthinking").panels(result)) == 3


@pytest.mark.parametrize("seed", range(4))
def test_lucky_hits_before_the_answer_has_formed_are_no_overthinking(seed):
    lucky = torch.rand(N + 1, BATCH, 9, generator=torch.Generator().manual_seed(seed)) < 0.5
    formed = torch.rand(BATCH, 9, generator=torch.Generator().manual_seed(100 + seed)) < 0.9
    result = overthinking_of(torch.where(K < 5, lucky, formed), depth=6)
    assert result.verdict.name == "steady" and result.growth.lost == 0


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
    assert [bool(change.high < -0.02) for change in result.growths] == (level == worst).tolist()
    assert [change.low == change.low for change in result.growths] == (count >= 12).tolist()


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
    assert "within 2 points of accuracy" in str(result) and '"verdict"' in result.to_json()


def test_a_run_without_known_answers_gets_a_sentence():
    model = ls.models.build("universal", width=16, vocabulary=3).eval()
    run = ls.record(model, TASK.batch(8, seed=0).tokens, 4)
    with pytest.raises(LoopscopeError, match="overthinking needs a run of 3 iterations or more on examples"):
        ls.analyses.measure("overthinking", run)


def test_the_changes_of_all_iterations_lead_from_the_first_accuracy_to_the_last():
    guess = torch.rand(N + 1, BATCH, 9, generator=torch.Generator().manual_seed(1)) < 0.5
    result = overthinking_of(guess)
    net = int(result.to_right.sum() - result.to_wrong.sum())
    assert net == round(float(result.accuracy[-1] - result.accuracy[0]) * result.items)
    assert (
        f"In the first iteration {int(result.to_right[0])} answers turn right and {int(result.to_wrong[0])} "
        f"wrong; in the later ones together answers change {int(result.to_wrong[1:].sum())} times from right "
        f"to wrong and {int(result.to_right[1:].sum())} times from wrong to right."
    ) in str(result)


def test_the_peak_of_the_figure_is_quoted_beside_the_one_chosen_on_other_examples():
    even = (torch.arange(BATCH) % 2 == 0)[None, :, None]  # each half has its own best iteration
    result = overthinking_of(torch.where(even, (K == 5) | (K == 6), (K == 6) | (K == 9)))
    assert result.best == 6 and float(result.accuracy[6]) == 1 and float(result.accuracy[-1]) == 0
    text = result.peak_sentence()
    assert "largest after 6 iterations (100 %), -100.0 points" in text and result.drop.before == (6, 9)
    assert result.drop.change > -1, "the choice on other examples is less favourable"
    since = [e for e in result.evidence.estimates if "best on the other half" in e.name]
    assert [e.value for e in since] == [result.drop.change]


def test_where_the_end_is_best_no_change_since_then_is_a_number():
    result = overthinking_of((K >= 3) & (torch.arange(BATCH) < 40)[None, :, None])
    assert result.best == N and result.drop.before == (N,)
    assert not [e for e in result.evidence.estimates if "best" in e.name], "the end since the end"
    assert "no iteration is better" in result.peak_sentence()


def test_the_marked_iteration_is_where_a_loop_ended_by_itself():
    run = ls.record(halting_model(bias=-2.0, gate=0.0), TASK.batch(16, seed=0).tokens, 12)
    result = ls.analyses.measure("overthinking", run)
    assert result.marked == len(result.accuracy) - 1 < result.depth
    figure = result.figure()
    assert figure.layout.shapes[0].x0 == depth_of(run).iterations == result.marked
