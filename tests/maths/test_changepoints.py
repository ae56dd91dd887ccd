"""Planted transitions of a curve are detected and dated; a curve without transitions has none."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import loopscope as ls
from loopscope.maths.changepoints import crossing, transitions

STEPS = torch.tensor(
    [0, *sorted(set(np.round(np.geomspace(5, 20_000, 110)).astype(int).tolist()))], dtype=torch.float64
)
RATIO = float((STEPS[2:] / STEPS[1:-1]).max())
"""The largest ratio of two looks."""


def noisy(values, size, seed):
    return values + size * torch.randn(
        len(values), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def logistic(centre, power):
    return 1 / (1 + (centre / STEPS.clamp(min=1e-9)) ** power)


@settings(max_examples=5)
@given(st.floats(50, 5000), st.sampled_from([0.0, 0.02, 0.05]), st.integers(0, 99))
def test_a_planted_step_is_dated_between_the_looks_around_it(when, noise, seed):
    (result,) = transitions(STEPS, noisy((when < STEPS).double(), noise, seed))
    assert result.low / RATIO <= when <= result.high * RATIO
    assert when / RATIO**2 <= result.step <= when * RATIO**2
    assert result.before == pytest.approx(0, abs=3 * noise + 1e-9) and result.after == pytest.approx(
        1, abs=3 * noise + 1e-9
    )


@settings(max_examples=5)
@given(st.floats(100, 3000), st.floats(2.0, 8.0), st.sampled_from([0.0, 0.03]), st.integers(0, 99))
def test_a_planted_sigmoid_is_dated_at_its_middle(when, power, noise, seed):
    (result,) = transitions(STEPS, noisy(logistic(when, power), noise, seed))
    # A tenth of the height is that of 4 / power * 0.1 in log steps; noise and looks move it no
    # further than this.
    assert abs(math.log(result.step / when)) <= 2 * math.log(RATIO) + 8 * noise / power
    assert result.begin < result.step < result.end


@settings(max_examples=4)
@given(
    st.floats(50, 200),
    st.floats(20, 60),
    st.floats(0.35, 0.65),
    st.sampled_from([0.0, 0.03]),
    st.integers(0, 99),
)
def test_two_stages_are_told_apart_and_both_dated(first, ratio, height, noise, seed):
    second = first * ratio
    curve = height * logistic(first, 6) + (1 - height) * logistic(second, 6)
    one, two = transitions(STEPS, noisy(curve, noise, seed))
    for result, when in ((one, first), (two, second)):
        assert abs(math.log(result.step / when)) <= 3 * math.log(RATIO) + 3 * noise
    assert one.after == pytest.approx(height, abs=0.05 + 2 * noise)


@settings(max_examples=6)
@given(st.floats(0, 1), st.sampled_from([0.0, 0.02, 0.05]), st.integers(0, 99))
def test_where_nothing_happens_no_transition_is_found(level, noise, seed):
    assert transitions(STEPS, noisy(torch.full_like(STEPS, level), noise, seed)) == []


@pytest.mark.parametrize("ratio", [1.5, 2.0])
def test_one_rise_in_two_strides_without_a_rest_between_them_is_one_transition(ratio):
    curve = 0.5 * logistic(500.0, 4) + 0.5 * logistic(500.0 * ratio, 4)
    (result,) = transitions(STEPS, noisy(curve, 0.01, 0))
    assert 500 <= result.step <= 500 * ratio


def test_a_jump_that_goes_over_into_a_slow_rise_is_one_transition_too():
    curve = 0.5 * logistic(500.0, 20) + 0.5 * logistic(900.0, 2)
    (result,) = transitions(STEPS, noisy(curve, 0.01, 0))
    assert result.before == pytest.approx(0, abs=0.05) and result.after == pytest.approx(1, abs=0.05)


def test_a_fall_is_a_transition_too_and_spikes_are_none():
    spiked = (STEPS > 300).double()
    spiked[60::9] = 0.3
    (rise,) = transitions(STEPS, spiked)
    assert 300 / RATIO <= rise.step <= 300 * RATIO
    rise, fall = transitions(STEPS, (STEPS > 100).double() - 0.6 * (STEPS > 5000))
    assert fall.after < fall.before and 5000 / RATIO <= fall.step <= 5000 * RATIO and rise.step < 110


def test_a_curve_that_follows_another_is_dated_later_by_as_much():
    one, two = (transitions(STEPS, logistic(when, 4))[0] for when in (200.0, 2000.0))
    assert two.step / one.step == pytest.approx(10, rel=0.1)
    assert two.sharpness == pytest.approx(one.sharpness, rel=0.2)


def test_a_level_is_crossed_where_the_curve_stays_above_it():
    values = torch.linspace(0, 1, len(STEPS), dtype=torch.float64)
    result = crossing(STEPS, values, 0.5)
    assert result is not None and result.low <= result.step <= result.high
    assert float(values[result.step >= STEPS][-1]) <= 0.5 <= float(values[result.step <= STEPS][0])
    assert crossing(STEPS, values * 0.4, 0.5) is None
    flash = torch.zeros_like(STEPS)
    flash[40] = 1.0  # one look above the level isn't staying
    assert crossing(STEPS, flash, 0.5) is None
    flash[80:] = 1.0  # nor is it the beginning of what comes later
    late = crossing(STEPS, flash, 0.5)
    assert late is not None and float(STEPS[79]) <= late.step <= float(STEPS[80])
    above = crossing(STEPS, torch.ones_like(STEPS), 0.5)
    assert above is not None and above.step == 0


def test_the_interval_grows_with_the_noise():
    widths = []
    for noise in (0.01, 0.15):
        result = crossing(STEPS, noisy(logistic(700.0, 1.5), noise, 0), 0.5)
        assert result is not None
        widths.append(math.log(result.high / result.low))
    assert widths[1] > widths[0]


def test_what_cannot_be_dated_is_said():
    with pytest.raises(ls.LoopscopeError, match="8 steps or more"):
        transitions(torch.arange(5.0), torch.arange(5.0))
    with pytest.raises(ls.LoopscopeError, match="without NaN or infinity"):
        crossing(STEPS, torch.full_like(STEPS, float("nan")), 0.5)
