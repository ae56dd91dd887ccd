"""What the precision of numbers can decide: limits and periods in every dtype, beside constants."""

import math

import pytest
import torch

from loopscope import maths
from loopscope.maths import Kind
from loopscope.maths.precision import resolution, state_scale

from ..toys.trajectories import DOUBLE, Maker, logistic

DTYPES = [
    DOUBLE,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
]
COURSES = {
    "constant": (lambda m: m.direction().expand(len(m.k), -1), Kind.fixed_point),
    "spiral": (lambda m: m.spiral(0.9), Kind.fixed_point),
    "approach": (lambda m: m.approach(0.85), Kind.fixed_point),
    "orbit": (lambda m: m.orbit(), Kind.orbit),
    "cycle of seven": (lambda m: m.cycle(7), Kind.orbit),
    "cycle of two": (lambda m: m.cycle(2), Kind.orbit),
    "torus": (lambda m: m.torus(), Kind.torus),
    "drift": (lambda m: m.drift(), Kind.drifting),
    "slow drift": (lambda m: m.drift(0.01), Kind.drifting),
    "explosion": (lambda m: m.explosion(1.2), Kind.diverging),
    "chaos": (lambda m: logistic(3.9, len(m.k)) * m.direction(), Kind.irregular),
}


@pytest.mark.parametrize("course", COURSES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0.0, 1.0, 100.0, 1e4])
def test_a_kind_is_the_true_one_or_unresolved(course, dtype, offset):
    make, expected = COURSES[course]
    x = (offset + make(Maker(5, 96, 6))).to(dtype)
    if expected is not Kind.diverging and not bool(x.float().isfinite().all()):
        pytest.skip(f"this torch has no {dtype} of this size")
    kind = maths.limits(x)[()].kind
    fine = dtype is DOUBLE or (dtype is torch.float32 and offset <= 1)
    same = {expected, Kind.slider} if expected is Kind.drifting else {expected}
    assert kind in (same if fine else same | {Kind.unresolved})


@pytest.mark.parametrize("dtype", DTYPES[2:])
def test_a_constant_in_few_digits_is_no_point_and_has_no_period(dtype):
    x = torch.full((64, 3), 0.7).to(dtype)
    assert maths.limits(x)[()].kind is Kind.unresolved
    result = maths.period(x)
    assert result.period.isnan()
    assert not result.resolved


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_a_constant_in_many_digits_is_a_point(dtype):
    x = torch.full((64, 3), 0.7, dtype=dtype)
    assert maths.limits(x)[()].kind is Kind.fixed_point
    assert float(maths.period(x).period) == 1


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("course", ["spiral", "orbit", "torus", "cycle of seven", "chaos", "explosion"])
def test_a_constant_changes_no_kind_that_the_precision_resolves(course, offset):
    make, expected = COURSES[course]
    assert maths.limits(offset + make(Maker(3, 96, 6)))[()].kind is expected


def test_a_slow_motion_below_rounding_is_no_rest():
    k = torch.arange(200, dtype=DOUBLE)[:, None]
    x = (1e4 + 1e-4 * k * torch.ones(3, dtype=DOUBLE)).float()
    rows = torch.stack([x, x + 1], dim=1)  # another row gives the scale
    assert [maths.limits(rows)[i].kind for i in (0, 1)] == [Kind.unresolved] * 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_resolution_is_the_spacing_of_numbers_at_one(dtype):
    assert resolution(dtype) == torch.finfo(dtype).eps
    assert resolution(torch.int64) == torch.finfo(DOUBLE).eps


def test_the_scale_of_a_state_is_its_range_or_else_what_else_varies():
    x = 100 + torch.tensor([[0.0, 1.0], [0.0, 3.0]], dtype=DOUBLE)
    assert state_scale(x, torch.tensor([7.0, 0.0]), 1e-7).tolist() == pytest.approx([7.0, 1.0])
    assert state_scale(x[:1], torch.zeros(1), 1e-7).tolist() == pytest.approx([0.5])
    assert state_scale(torch.full((1, 2), 5.0), torch.zeros(1), 1e-7).tolist() == pytest.approx([50**0.5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_vectors_that_differ_by_rounding_have_neither_dimensions_nor_similarity(dtype):
    noise = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(0))
    x = (3 + 0.3 * resolution(dtype) * noise).to(dtype)
    assert maths.participation_ratio(x).isnan().all()
    assert maths.effective_rank(x).isnan().all()
    assert maths.cka_map(x).isnan().all()
    assert math.isnan(float(maths.cka(x[0], noise[0].to(dtype))))
    assert bool(maths.recurrence(x.transpose(0, 1)).recurs.all())
