"""Periods of rotations, of cycles with harmonics, and of motion without a period."""

import math

import numpy as np
import pytest
import torch

from loopscope import maths
from loopscope.common.errors import LoopscopeError
from loopscope.maths.sinusoids import fit_sinusoids

from ..toys.trajectories import DOUBLE, Maker, logistic

IRRATIONAL = [
    0.1 * math.sqrt(2),
    0.7,
    1.0,
    math.sqrt(2),
    math.pi * (3 - math.sqrt(5)),
    2.9,
    2 * math.pi / 7.001,
    3.1,
]


def folded(angle: float) -> float:
    return min(angle % (2 * math.pi), -angle % (2 * math.pi))


@pytest.mark.parametrize("angle", IRRATIONAL)
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize(("states", "width"), [(64, 1), (64, 2), (128, 5), (200, 80), (300, 2)])
def test_a_rotation_by_an_irrational_angle_is_measured_and_never_closes(angle, states, width, dtype):
    result = maths.period(Maker(0, states, width).orbit(angle).to(dtype))
    assert float(result.angle) == pytest.approx(folded(angle), rel=1e-5)
    assert float(result.period) == pytest.approx(2 * math.pi / folded(angle), rel=1e-5)
    assert not result.whole


@pytest.mark.parametrize("angle", IRRATIONAL[1:])
@pytest.mark.parametrize("level", [0.001, 0.01, 0.05])
def test_noise_moves_the_angle_by_less_than_a_thousandth(angle, level):
    maker = Maker(1, 256, 3)
    result = maths.period(maker.noisy(maker.orbit(angle), level))
    assert float(result.angle) == pytest.approx(folded(angle), rel=1e-3)


@pytest.mark.parametrize("period", [2, 3, 4, 5, 7, 12, 16, 30])
@pytest.mark.parametrize("width", [1, 2, 20])
@pytest.mark.parametrize("level", [0, 0.02, 0.1])
def test_a_cycle_of_any_length_keeps_its_period_in_noise(period, width, level):
    maker = Maker(period, 160, width)
    x = maker.cycle(period)
    result = maths.period(maker.noisy(x, level * float(x.std())))
    assert (float(result.period), bool(result.whole)) == (period, True)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_cycle_that_goes_round_several_times_has_the_angle_of_its_turns(turns):
    result = maths.period(Maker(0, 100).orbit(2 * math.pi * turns / 7))
    assert float(result.period) == 7
    assert float(result.angle) == pytest.approx(2 * math.pi * turns / 7, rel=1e-12)


@pytest.mark.parametrize(("r", "period"), [(3.2, 2), (3.5, 4), (3.55, 8), (3.83, 3), (3.74, 5), (2.9, 1)])
def test_the_logistic_map_has_its_periods(r, period):
    assert float(maths.period(logistic(r, 600)).period) == period


@pytest.mark.parametrize("r", [3.6, 3.7, 3.9, 4.0])
def test_chaos_has_no_period_not_even_in_bands(r):
    result = maths.period(logistic(r, 300, skip=100))
    assert result.period.isnan()
    assert result.angle.isnan()


@pytest.mark.parametrize("weak", [0.5, 0.2, 0.05])
def test_a_fundamental_weaker_than_its_harmonic_is_found(weak):
    k = torch.arange(200, dtype=DOUBLE)
    result = maths.period(weak * torch.cos(0.53 * k) + torch.cos(1.06 * k + 1))
    assert float(result.angle) == pytest.approx(0.53, rel=1e-5)


def test_harmonics_folded_at_pi_belong_to_the_same_rotation():
    k = torch.arange(200, dtype=DOUBLE)
    result = maths.period(torch.cos(2.3 * k) + 0.5 * torch.cos(4.6 * k) + 0.3 * torch.cos(9.2 * k))
    assert float(result.angle) == pytest.approx(2.3, rel=1e-6)
    assert result.winding.isnan()


def test_two_frequencies_are_two():
    result = maths.period(Maker(0, 256, 4).torus())
    angles = sorted([float(result.angle), float(result.second)])
    assert angles == pytest.approx([math.sqrt(2), 2.3], rel=1e-4)
    assert result.period.isnan()


def test_a_point_has_period_one_and_noise_has_none():
    assert float(maths.period(torch.ones(32, 3)).period) == 1
    assert maths.period(torch.randn(200, 4, generator=torch.Generator().manual_seed(0))).period.isnan()


def test_a_line_and_a_part_of_a_turn_have_no_period():
    maker = Maker(0, 64)
    assert maths.period(maker.drift()).period.isnan()
    assert maths.period(maker.orbit(2 * math.pi / 100)).period.isnan()


def test_what_is_not_finite_has_no_period():
    x = Maker(0).orbit(1.0)
    x[40] = math.nan
    assert maths.period(x).period.isnan()


def test_arrays_of_any_kind_and_shape():
    x = np.sin(0.7 * np.arange(100))
    assert float(maths.period(x).angle) == pytest.approx(0.7, rel=1e-9)
    many = np.stack([np.stack([x, np.cos(1.1 * np.arange(100))])] * 3)  # (3, 2, iteration)
    result = maths.period(np.moveaxis(many, -1, 0)[..., None])
    assert result.angle.shape == (3, 2)
    assert result.angle[:, 1].tolist() == pytest.approx([1.1] * 3)
    assert float(maths.period([0, 1] * 20).period) == 2


def test_chunks_change_nothing():
    x = torch.stack([Maker(seed, 64, 2).orbit() for seed in range(7)], dim=1)
    assert torch.equal(maths.period(x, chunk=2).angle, maths.period(x).angle)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: maths.period(torch.ones(5, 2)), "trajectories of 8 states or more, but they have 5"),
        (lambda: maths.period(torch.ones(32, 2), window=0.0), "window must be a fraction"),
        (lambda: maths.period(torch.ones(32, 2), coherence=1.5), "coherence must be a fraction"),
        (lambda: maths.period(torch.ones(32, 2, dtype=torch.cfloat)), "states must be .* real numbers"),
    ],
)
def test_what_cannot_be_measured_is_said(ask, sentence):
    with pytest.raises(LoopscopeError, match=sentence):
        ask()


@pytest.mark.parametrize("rate", [0.9, 0.97, 0.99, 1.0, 1.02])
def test_a_damped_tone_gives_its_angle_and_rate(rate):
    x = Maker(0, 48, 1).spiral(rate, angle=0.8)[None]
    result = fit_sinusoids(
        x, torch.full((1, 1), 0.75, dtype=DOUBLE), torch.ones(1, 1, dtype=DOUBLE), rounds=12, damped=True
    )
    assert float(result.angles) == pytest.approx(0.8, rel=1e-6)
    assert float(result.rate) == pytest.approx(math.log(rate), abs=1e-6)
