"""Metrics of stopping, on answers with a prescribed correctness; the oracle against every choice of
stops."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loopscope.halting import metrics

RIGHT = torch.tensor(
    [
        # right after 1 iteration, from 3 on, after 2 only, never
        [1, 0, 0, 0],
        [1, 0, 1, 0],
        [1, 1, 0, 0],
        [1, 1, 0, 0],
    ],
    dtype=torch.bool,
)


def every_choice(right):
    return itertools.product(range(right.shape[0]), repeat=right.shape[1])


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4))
def test_the_oracle_is_the_best_of_all_choices_of_stops(rows):
    right = torch.tensor(rows)
    best = {}
    for choice in every_choice(right):
        spent, hits = sum(choice), sum(bool(right[t, i]) for i, t in enumerate(choice))
        best[spent] = max(best.get(spent, 0), hits)
    for spent in range(4 * (len(rows) - 1) + 1):
        most = max((hits for other, hits in best.items() if other <= spent), default=0)
        result = metrics.oracle_accuracy(right, torch.tensor([1 + spent / 4]))
        assert result.item() == pytest.approx(most / 4)


@given(st.integers(0, 10_000))
def test_no_rule_beats_the_oracle(seed):
    generator = torch.Generator().manual_seed(seed)
    right = torch.rand(6, 20, generator=generator) < 0.5
    score = torch.rand(6, 20, generator=generator)
    curve = metrics.threshold_curve(score, right)
    assert (metrics.oracle_accuracy(right, curve.iterations) >= curve.accuracy - 1e-12).all()
    for accuracy, mean in zip(curve.accuracy.tolist(), curve.iterations.tolist(), strict=True):
        assert metrics.iterations_needed(right, accuracy) <= mean + 1e-9


def test_a_sweep_goes_from_the_first_iteration_to_the_last():
    score = torch.tensor([[4.0, 8], [3, 7], [2, 6], [1, 5]])
    right = torch.tensor([[0, 0], [0, 0], [1, 0], [1, 1]], dtype=torch.bool)
    curve = metrics.threshold_curve(score, right)
    order = curve.iterations.argsort()
    assert curve.iterations[order[0]] == 1 and curve.accuracy[order[0]] == 0
    assert curve.iterations[order[-1]] == 4 and curve.accuracy[order[-1]] == 1
    at = dict(zip(curve.thresholds.tolist(), curve.iterations.tolist(), strict=True))
    assert at[float("-inf")] == 4 and at[float("inf")] == 1
    assert torch.equal(metrics.stop_iterations(score, 2.0), torch.tensor([2, 3]))
    assert torch.equal(metrics.stop_iterations(score, 2.0, strict=True), torch.tensor([3, 3]))


def test_thinking_too_short_and_too_long_are_counted():
    assert metrics.underthinking(RIGHT, torch.tensor([0, 1, 0, 0])).tolist() == [False, True, True, False]
    assert metrics.overthinking(RIGHT, torch.tensor([3, 3, 3, 3])).tolist() == [False, False, True, False]
    assert metrics.overthinking(RIGHT, torch.tensor([3, 3, 1, 3])).tolist() == [False] * 4


def test_a_probability_that_is_one_has_no_calibration_error():
    probability = torch.tensor([0.25] * 4 + [0.75] * 4)
    right = torch.tensor([1, 0, 0, 0, 1, 1, 1, 0], dtype=torch.bool)
    result = metrics.calibration(probability, right)
    assert result.error == pytest.approx(0)
    assert (
        result.count[2] == 4 and result.accuracy[7] == pytest.approx(0.75) and result.probability[0].isnan()
    )
    wrong = metrics.calibration(torch.ones(4), torch.tensor([1, 0, 0, 0], dtype=torch.bool))
    assert wrong.error == pytest.approx(0.75)
