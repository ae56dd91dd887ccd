"""The verdict on a training: every member from curves made by hand, noise, gaps and holes."""

import numpy as np
import pytest
import torch

from loopscope.analyses.grokking import GrokkingVerdict as V  # pyright: ignore[reportMissingImports]
from loopscope.analyses.grokking.verdict import grokking_verdict  # pyright: ignore[reportMissingImports]

STEPS = sorted({0, *np.round(np.geomspace(5, 20_000, 90)).astype(int).tolist()})


def rise(when, height=1.0, steps=STEPS):
    return torch.tensor(height / (1 + (when / np.maximum(steps, 0.1)) ** 8))


def decided(steps=STEPS, sampled=1000, **curves):
    return grokking_verdict(steps, curves, 0.95, dict.fromkeys(curves, sampled))


CASES = {
    V.nothing: {"train": rise(100, 0.3), "test": rise(100, 0.02)},
    V.memorised: {"train": rise(100), "test": rise(100, 0.03)},
    V.partly: {"train": rise(100), "test": rise(2000, 0.5)},
    V.together: {"train": rise(100), "test": rise(105)},
    V.grokked: {"train": rise(100), "test": rise(3000)},
    V.systematic: {"train": rise(100), "test": rise(1000), "systematic": rise(6000)},
    V.unclear: {"train": rise(100), "test": rise(2000, 0.951)},
}


@pytest.mark.parametrize("member", V)
def test_each_verdict_has_its_curves(member: V):
    result, evidence = decided(**CASES[member])
    assert result is member
    assert evidence.examples == 1 and "One training" in evidence.how
    assert sum(evidence.support.values()) == pytest.approx(1)


def test_looks_that_are_too_far_apart_are_unclear():
    steps = [0, 10, 20, 40, 80, 400, 4000, 8000]
    train, test = torch.tensor([0, 0, 0, 0, 0, 1.0, 1, 1]), torch.tensor([0, 0, 0, 0, 0, 0, 1.0, 1])
    result, evidence = decided(steps, None, train=train, test=test)
    assert result is V.unclear and "too far apart" in evidence.how
    assert set(evidence.alternatives) == {V.together, V.grokked}
    (delay,) = evidence.estimates
    assert delay.low <= 0 and delay.high >= 4000 - 80


@pytest.mark.parametrize(
    ("end", "sampled", "verdict"),
    [(0.97, 1000, V.grokked), (0.955, 1000, V.unclear), (0.97, 100, V.unclear), (0.955, None, V.grokked)],
)
def test_a_curve_that_ends_near_the_level_counts_if_its_examples_tell(end, sampled, verdict):
    test = (rise(2000) * end).double()
    result, evidence = decided(sampled=sampled, train=rise(100), test=test)
    assert result is verdict, evidence
    if verdict is V.unclear:
        assert set(evidence.alternatives) == {V.grokked, V.partly}


def test_a_curve_that_fluctuates_around_the_level_is_unclear_though_all_examples_are_measured():
    noise = 0.04 * torch.randn(len(STEPS), generator=torch.Generator().manual_seed(0)).double()
    curve = (rise(500, 0.95) + noise).clamp(0, 1)
    curve[-1] = 0.952
    assert decided(sampled=None, train=rise(50), test=curve)[0] is V.unclear


def test_fluctuation_at_half_of_the_answers_is_not_taken_for_that_at_nearly_all():
    """A curve that jumps to the level at its end, as the learning rate falls."""
    noise = 0.05 * torch.randn(len(STEPS), generator=torch.Generator().manual_seed(0)).double()
    curve = rise(1000, 0.6) + noise * rise(1000)
    curve[-3:] = torch.tensor([0.90, 0.95, 0.98])
    assert decided(sampled=1000, train=rise(100), test=rise(1000), systematic=curve)[0] is V.systematic


def test_noise_on_a_flat_curve_is_no_partial_success():
    noise = 0.03 * torch.randn(len(STEPS), generator=torch.Generator().manual_seed(1)).double()
    assert decided(train=rise(100), test=(0.3 + noise))[0] is V.memorised


def test_looks_without_a_number_are_left_out():
    train, test = rise(100), rise(3000)
    train[::5], test[3::7] = torch.nan, torch.nan
    assert decided(train=train, test=test)[0] is V.grokked
    assert decided(train=train * torch.nan, test=test)[0] is V.nothing


def test_ties_are_together_and_few_looks_are_unclear():
    same = torch.ones(len(STEPS))
    assert decided(train=same, test=same)[0] is V.together
    for looks in (1, 7):
        result, evidence = decided(STEPS[:looks], train=torch.ones(looks), test=torch.zeros(looks))
        assert result is V.unclear and "too few" in evidence.how


def test_what_is_reached_before_the_test_examples_is_no_systematic_generalisation():
    assert decided(train=rise(100), test=rise(6000), systematic=rise(2000))[0] is V.grokked
