"""Evidence: a verdict comes out the same on other examples, or it is unclear; intervals cover what
they should."""

import math
from collections import Counter

import pytest
import torch

from loopscope.common.evidence import (
    Estimate,
    by_bootstrap,
    by_examples,
    estimate,
    interval_text,
    mean_estimate,
    resample,
    share_estimate,
    share_interval,
    with_unseen,
)
from loopscope.common.verdict import UNCLEAR, Verdict


class Weather(Verdict):
    dry = "It is dry."
    wet = "It is wet."
    icy = "It is icy."
    mixed = "Some days are dry, others are not."
    unresolved = "The instrument can't tell."
    unclear = UNCLEAR


D, W, C, M, R, U = Weather
OPTIONS = {"mixed": M, "unclear": U, "unresolved": R}


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([D], D),
        ([D] * 12, D),
        ([D] * 63 + [W], D),  # 92 to 99.7 %
        ([D] * 15 + [W], U),
        ([D] * 6 + [W] * 6, M),
        ([D, W], M),
        ([D] * 2 + [W] * 2 + [C] * 2, M),
        ([D] * 9 + [W] * 3, U),  # 47 to 91 %: nearly all can't be excluded
        ([R] * 4, R),
        ([U] * 4, U),
        ([U] * 2 + [R] * 2, R),
        ([D] * 4 + [R] * 4, R),
        ([D] * 63 + [R], D),
        ([D] * 4 + [U] * 4, U),
        ([D] * 6 + [W] * 6 + [R] * 4, M),
        ([D] * 6 + [W] + [R] * 6, U),
    ],
)
def test_examples_are_counted(verdicts: list[Weather], expected: Weather):
    verdict, evidence = by_examples(verdicts, **OPTIONS)
    assert verdict is expected
    assert evidence.examples == len(verdicts)
    assert math.isclose(sum(evidence.support.values()), 1)
    reversed_, _ = by_examples(verdicts[::-1], **OPTIONS)
    assert reversed_ is verdict  # also where two are equally common


def test_an_unclear_verdict_says_what_the_numbers_allow():
    _, evidence = by_examples([D] * 15 + [W], **OPTIONS)
    assert evidence.alternatives == (D, M)
    assert evidence.unclear_sentence == (
        "Unclear, these numbers allow both: (1) It is dry. (2) Some days are dry, others are not."
    )
    assert (
        evidence.how
        == "“It is dry”: 15 of 16 examples (72 to 98.9 %); “It is wet”: 1 of 16 examples (1.1 to 28 %)."
    )
    nothing = by_examples([U], **OPTIONS)[1].unclear_sentence
    assert nothing.startswith("Unclear: these numbers give no conclusion.") and UNCLEAR not in nothing


@pytest.mark.parametrize("examples", [12, 16, 64])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0])
def test_over_ten_batches_at_least_nine_verdicts_are_the_same_or_unclear(examples: int, share: float):
    generator = torch.Generator().manual_seed(0)
    broken = 0
    for _ in range(200):
        draws = torch.rand(10, examples, generator=generator) < share
        clear = Counter(by_examples([D if one else W for one in row], **OPTIONS)[0] for row in draws.tolist())
        clear.pop(U, None)
        broken += sum(clear.values()) - max(clear.values(), default=0) > 1
    assert broken / 200 <= 0.1


def mean_verdict(values: torch.Tensor):
    def verdict(draw: torch.Tensor) -> Weather:
        mean = float(values[draw].mean())
        return R if math.isnan(mean) else W if mean > 0 else D

    return verdict


@pytest.mark.parametrize("centre", [-1.0, -0.2, 0.0, 0.1, 0.5])
def test_over_ten_batches_a_bootstrap_verdict_is_the_same_or_unclear(centre: float):
    generator = torch.Generator().manual_seed(1)
    broken = unclear = 0
    for _ in range(30):
        values = centre + torch.randn(10, 32, generator=generator)
        clear = Counter(by_bootstrap(mean_verdict(row), 32, unclear=U)[0] for row in values)
        unclear += clear.pop(U, 0)
        broken += sum(clear.values()) - max(clear.values(), default=0) > 1
    assert broken <= 3
    assert (unclear == 0) == (abs(centre) == 1)


def test_a_bootstrap_verdict_names_its_alternatives_and_its_support():
    values = torch.tensor([1.0, -1.0] * 8)
    verdict, evidence = by_bootstrap(mean_verdict(values), 16, unclear=U)
    assert verdict is U and set(evidence.alternatives) == {D, W}
    assert math.isclose(sum(evidence.support.values()), 1)
    again = by_bootstrap(mean_verdict(values), 16, unclear=U)
    assert again == (verdict, evidence)


def test_where_all_examples_give_no_verdict_the_samples_that_give_one_suggest_it():
    def verdict_of(rows):
        return W if float((rows == 0).float().mean()) > 1.5 / 16 else U

    verdict, evidence = by_bootstrap(verdict_of, 16, unclear=U)
    assert verdict is U and evidence.alternatives == (W,)
    assert evidence.unclear_sentence.endswith(f"not established: {W.sentence}")
    assert "together give no verdict" in evidence.how and "Of the rest" in evidence.how
    verdict, evidence = by_bootstrap(lambda rows: U, 16, unclear=U)
    assert verdict is U and not evidence.alternatives and "nor does any of 200 bootstrap" in evidence.how


def test_one_example_gives_its_verdict_and_says_that_it_says_nothing_of_others():
    verdict, evidence = by_bootstrap(mean_verdict(torch.ones(1)), 1, unclear=U)
    assert verdict is W and "says nothing of others" in evidence.how
    verdict, evidence = by_bootstrap(mean_verdict(torch.ones(3)), 3, unclear=U, least=8)
    assert verdict is U and "3 examples are too few for a verdict, which needs 8" in evidence.how


def test_one_example_is_too_few():
    _, evidence = by_bootstrap(mean_verdict(torch.ones(1)), 1, unclear=U, least=8)
    assert evidence.how == "1 example is too few for a verdict, which needs 8."


def test_what_cannot_be_told_stays_that():
    verdict, evidence = by_bootstrap(mean_verdict(torch.full((8,), math.nan)), 8, unclear=U)
    assert verdict is R and evidence.support == {"unresolved": 1.0}


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    # Newcombe 1998 (Statistics in Medicine 17, 857), table I, Wilson's score without correction
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_of_shares_are_those_that_were_published(hits: int, total: int, low: float, high: float):
    assert share_interval(hits, total) == pytest.approx((low, high), abs=6e-5)


def test_shares_of_nothing_are_unknown():
    assert all(math.isnan(v) for v in share_interval(0, 0))
    assert math.isnan(share_estimate("share", 0, 0).value)
    assert interval_text(8, 9) == "57 to 98.0 %"


def test_the_interval_of_a_mean_covers_it_in_about_95_percent_of_samples():
    values = torch.randn(300, 40, generator=torch.Generator().manual_seed(2))
    estimates = [mean_estimate("mean", row) for row in values]
    covered = sum(one.low <= 0 <= one.high for one in estimates) / 300
    assert 0.88 <= covered <= 0.98


def test_means_leave_out_nan_and_one_example_has_no_interval():
    one = mean_estimate("mean", torch.tensor([1.0, math.nan]))
    assert one.value == 1 and math.isnan(one.low) and one.text == "1"
    assert math.isnan(mean_estimate("mean", torch.tensor([math.nan])).value)
    assert Estimate("x", 0.5, 0.25, 0.75).text == "0.5 (0.25 to 0.75)"


@pytest.mark.parametrize("examples", [3, 20, 64])
def test_an_interval_holds_its_value_although_samples_repeat_examples(examples: int):
    result = estimate("different examples", lambda draw: len(set(draw.tolist())), examples)
    assert result.value == examples
    assert result.low <= examples <= result.high and result.low < result.high


def test_an_interval_without_width_says_what_it_is_and_a_share_allows_for_unseen_examples():
    constant = estimate("share", lambda draw: 1.0, 20)
    assert constant.text == "1 (the same in 95 % of samples)" == constant.share_text.replace("100 %", "1")
    wider = with_unseen(constant, 20)
    assert (wider.low, wider.high) == share_interval(20, 20) and wider.value == 1
    none = with_unseen(estimate("share", lambda draw: 0.0, 20), 20)
    assert (none.low, none.high) == share_interval(0, 20)
    varied = estimate("share", lambda draw: float((draw < 5).double().mean()), 20)
    assert with_unseen(varied, 20) is varied
    count = estimate("iterations", lambda draw: 7.0, 20)  # no share
    assert with_unseen(count, 20) is count


def test_a_statistic_that_is_mostly_undefined_has_no_interval():
    values = torch.tensor([1.0] + [math.nan] * 9)
    result = estimate("first", lambda draw: float(values[draw].mean()), 10)
    assert math.isnan(result.low) and math.isnan(result.high)


def test_samples_are_the_same_for_the_same_seed_and_draw_from_all_examples():
    assert torch.equal(resample(5, 7, 3), resample(5, 7, 3))
    assert not torch.equal(resample(5, 7, 3), resample(5, 7, 4))
    assert set(resample(5).flatten().tolist()) == set(range(5))
