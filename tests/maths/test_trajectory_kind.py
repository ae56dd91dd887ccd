"""Kinds of limits: known trajectories are classified, at several levels of noise."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loopscope import maths
from loopscope.common.errors import LoopscopeError
from loopscope.maths import Kind, Thresholds
from loopscope.maths.trajectory_kind import classify_features, measure_features

from ..toys.trajectories import DOUBLE, Maker, logistic

NOISE = [0.0, 1e-4, 1e-3, 0.01]


def kind(x, **thresholds) -> Kind:
    return maths.limits(x, **thresholds)[()].kind


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10_000),
    states=st.sampled_from([64, 96, 150]),
    width=st.sampled_from([2, 3, 8, 40]),
    level=st.sampled_from(NOISE),
    rate=st.floats(0.5, 0.95),
    slope=st.floats(0.03, 1.0),
    far=st.floats(0.5, 1.0),
)
def test_spirals_sliders_and_slow_drifts_are_told_apart(seed, states, width, level, rate, slope, far):
    maker = Maker(seed, states, width)
    level = level / math.sqrt(width / 2)  # the same length of noise in any width
    assert kind(maker.noisy(maker.spiral(rate), level)) is Kind.fixed_point
    assert kind(maker.noisy(maker.slider(slope), level)) is Kind.slider
    assert kind(maker.noisy(maker.drift(far), level)) is Kind.drifting


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10_000),
    states=st.sampled_from([64, 128, 200]),
    width=st.sampled_from([1, 2, 8, 40]),
    level=st.sampled_from([*NOISE, 0.05]),
)
def test_an_orbit_is_never_called_a_fixed_point(seed, states, width, level):
    maker = Maker(seed, states, width)
    assert kind(maker.noisy(maker.orbit(), level / math.sqrt(width))) is Kind.orbit


COURSES = {
    "constant": (lambda m: m.direction().expand(len(m.k), -1), Kind.fixed_point),
    "spiral": (lambda m: m.spiral(0.9), Kind.fixed_point),
    "slow spiral": (lambda m: m.spiral(0.99), Kind.fixed_point),
    "approach": (lambda m: m.approach(0.85), Kind.fixed_point),
    "slow approach": (lambda m: m.approach(0.97), Kind.fixed_point),
    "flip": (lambda m: m.approach(-0.9), Kind.fixed_point),
    "orbit": (lambda m: m.orbit(), Kind.orbit),
    "limit cycle approached": (lambda m: m.limit_cycle(0.9), Kind.orbit),
    "limit cycle approached slowly": (lambda m: m.limit_cycle(0.98), Kind.orbit),
    "cycle of seven": (lambda m: m.cycle(7), Kind.orbit),
    "cycle of two": (lambda m: m.cycle(2), Kind.orbit),
    "torus": (lambda m: m.torus(), Kind.torus),
    "slider": (lambda m: m.slider(), Kind.slider),
    "slider, ever slower": (lambda m: m.slider(1.0, 0.5), Kind.slider),
    "drift": (lambda m: m.drift(), Kind.drifting),
    "a part of a turn": (lambda m: m.orbit(0.5 / len(m.k)), Kind.drifting),
    "explosion": (lambda m: m.explosion(1.2), Kind.diverging),
    "slow explosion": (lambda m: m.explosion(1.03), Kind.diverging),
    "explosion in turns": (lambda m: m.explosion(-1.1), Kind.diverging),
    "spiral outwards": (lambda m: 1.05**m.k * m.circle(1.1), Kind.diverging),
}


@pytest.mark.parametrize("course", COURSES)
@pytest.mark.parametrize("states", [64, 129])
@pytest.mark.parametrize("width", [2, 6])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_every_course_has_its_kind(course, states, width, dtype):
    make, expected = COURSES[course]
    maker = Maker(5, states, width)
    assert kind(make(maker).to(dtype)) is expected


@pytest.mark.parametrize(
    "course", ["spiral", "approach", "orbit", "cycle of seven", "slider", "drift", "explosion"]
)
@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_units_do_not_matter(course, scale):
    make, expected = COURSES[course]
    assert kind(scale * make(Maker(2))) is expected


@pytest.mark.parametrize("r", [3.7, 3.8, 3.9, 4.0])
def test_chaos_is_irregular(r):
    assert kind(logistic(r, 128, skip=50)) is Kind.irregular


def test_henon_is_irregular():
    x, y, states = 0.1, 0.1, []
    for _ in range(200):
        x, y = 1 - 1.4 * x * x + y, 0.3 * x
        states.append((x, y))
    assert kind(torch.tensor(states, dtype=DOUBLE)) is Kind.irregular


@pytest.mark.parametrize("offset", [10, 1e3, 1e6])
@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_chaos_small_beside_its_norm_is_chaos_and_noise_is_rest(offset, noise):
    assert kind(offset + logistic(4.0, 128), noise=noise) is Kind.irregular
    drawn = torch.rand(128, 1, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    assert kind(1e3 + drawn, noise=noise) is Kind.fixed_point


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [0, 17, 63])
def test_overflow_is_caught_where_it_begins(value, where):
    x = Maker(0).spiral()
    x[where:, 1] = value
    result = maths.limits(x)[()]
    assert (result.kind, result.overflow) == (Kind.diverging, where)


def test_one_that_overflows_leaves_the_others_alone():
    maker = Maker(0)
    x = torch.stack([maker.spiral(), maker.orbit(), maker.slider()], dim=1)
    expected = maths.limits(x)
    x[30, 1] = math.nan
    result = maths.limits(x)
    assert [result[i].kind for i in (0, 2)] == [expected[i].kind for i in (0, 2)]
    assert result[1].kind is Kind.diverging


def test_shares_sum_to_one_and_a_threshold_moves_them():
    maker = Maker(0)
    jitter = torch.stack([maker.noisy(maker.direction().expand(64, -1), 0.03) for _ in range(5)], dim=1)
    features = measure_features(jitter)
    loose, strict = classify_features(features, noise=0.1), classify_features(features, noise=0.001)
    assert sum(loose.shares().values()) == pytest.approx(1)
    assert loose.shares()[Kind.fixed_point] == 1
    assert strict.shares()[Kind.irregular] == 1


def test_a_stream_of_chunks_is_the_whole():
    x = torch.stack([Maker(seed).orbit() for seed in range(6)], dim=1)
    whole = maths.limits(x)
    parts = list(maths.stream(x.split(4, dim=1)))
    assert torch.equal(torch.cat([p.angle for p in parts]), whole.angle)
    assert torch.equal(torch.cat([p.code for p in parts]), whole.code)
    assert torch.equal(maths.limits(x, chunk=1).angle, whole.angle)


def test_rotating_and_shifting_the_space_changes_no_kind():
    maker = Maker(3, 64, 4)
    turned = torch.linalg.qr(maker.normal(4, 4)).Q
    for make, expected in (COURSES[name] for name in ("spiral", "orbit", "drift", "cycle of seven")):
        assert kind(make(maker) @ turned) is expected


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: maths.limits(torch.ones(11, 2)), "must have 12 states or more, but they have 11"),
        (lambda: Thresholds(noise=2.0), "the threshold noise must be a fraction between 0 and 1, but is 2.0"),
        (lambda: Thresholds(growth=0.9), "the threshold growth must be a factor above 1"),
        (
            lambda: maths.limits(torch.ones(20, 2)).of("orbits"),
            "no kind of limit called 'orbits'. Did you mean 'orbit'",
        ),
    ],
)
def test_what_cannot_be_told_is_said(ask, sentence):
    with pytest.raises(LoopscopeError, match=sentence):
        ask()
