"""Stability: three measures of one contraction agree, and maps that don't settle get a verdict
instead."""

import json
import math
import warnings

import pytest
import torch
from torch import Tensor

import loopscope as ls

from ..maths.test_lyapunov import henon, scattered
from ..maths.test_spectrum import KINDS, matrix, rotation
from .test_fixed_points import DOUBLE, starts


def measured(map, start: Tensor, length: int = 100, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ls.LoopscopeWarning)
        run = ls.iterate(map, start, length)
    return ls.analyses.measure("stability", run, **{"iterations": 300} | options)


@pytest.mark.parametrize("radius", [0.3, 0.9, 0.97])
@pytest.mark.parametrize("kind", KINDS)
def test_radius_rate_and_exponent_of_a_linear_loop_are_one_number(kind, radius):
    A = matrix(kind, radius, 4)
    result = measured(lambda x: x @ A.T + 1, starts(2, 4), 300)
    assert result.agreement.name == "agree"
    assert result.disagreement == 0
    assert result.radius.tolist() == pytest.approx([radius] * 2, rel=1e-3)
    assert result.rate.tolist() == pytest.approx([radius] * 2, rel=1e-3)
    assert result.exponents[:, 0].tolist() == pytest.approx([math.log(radius)] * 2, rel=0.02, abs=2e-3)
    assert result.singular_value.tolist() == pytest.approx(
        [float(torch.linalg.matrix_norm(A, 2))] * 2, rel=1e-6
    )
    assert result.verdict.name == ("transient" if kind.startswith("non") else "stable")


def test_a_complex_pair_is_found_with_its_angle():
    result = measured(lambda x: x @ rotation(0.9, 1.0).T, starts(1, 2))
    assert abs(complex(result.eigenvalues[0, 0])) == pytest.approx(0.9)
    assert math.atan2(
        *reversed([complex(result.eigenvalues[0, 0]).real, complex(result.eigenvalues[0, 0]).imag])
    ) == pytest.approx(1)
    assert "turning by 57.3° per iteration" in str(result)


def test_the_result_says_when_they_disagree():
    """A start inside the fast direction never sees the slow one: the rate is 0.2, the radius
    0.8."""
    A = torch.diag(torch.tensor([0.8, 0.2], dtype=DOUBLE))
    result = measured(lambda x: x @ A.T, torch.tensor([[0.0, 1.0]], dtype=DOUBLE), 12)
    assert result.agreement.name == "disagree"
    assert result.disagreement == pytest.approx(math.log(4), rel=1e-2)
    assert "disagree by up to 1.39 nats per iteration" in str(result)


def twist(x: Tensor) -> Tensor:
    """Every circle turns by its own angle, its radius: neighbours part, but evenly, not
    exponentially."""
    r = x.norm(dim=1)
    return torch.stack([x[:, 0] * r.cos() - x[:, 1] * r.sin(), x[:, 0] * r.sin() + x[:, 1] * r.cos()], 1)


CASES = {
    "stable": (torch.cos, starts(2, 2), "stable", "agree"),
    "superstable": (lambda x: 0 * x + 1, starts(2, 2), "stable", "agree"),
    "transient": (
        lambda x: torch.stack([0.5 * x[:, 0] + 30 * x[:, 1], 0.4 * x[:, 1]], 1),
        starts(2, 2),
        "transient",
        "agree",
    ),
    "nilpotent": (
        lambda x: x.roll(1, -1) * torch.tensor([0.0, 3.0, 3.0]),
        starts(2, 3),
        "transient",
        "agree",
    ),
    "marginal": (lambda x: x, starts(2, 2), "marginal", "agree"),
    "unstable, begun upon": (lambda x: 2 * x, 0 * starts(2, 2), "unstable", "agree"),
    "attracting cycle": (lambda x: 3.2 * x * (1 - x), 0.3 + 0 * starts(2, 1), "contracting", "incomparable"),
    "turning for ever": (lambda x: x @ rotation(1.0, 1.0).T, starts(2, 2), "neutral", "incomparable"),
    "neighbours part evenly": (twist, starts(2, 2), "neutral", "incomparable"),
    "period 2": (lambda x: 3 - x, starts(2, 2), "neutral", "incomparable"),
    "chaos": (henon, torch.tensor([[0.1, 0.1], [0.2, 0.0]], dtype=DOUBLE), "expanding", "incomparable"),
    "diverging": (lambda x: 2 * x, starts(2, 2), "diverging", "incomparable"),
    "overflowing": (lambda x: x * x, 3 + 0 * starts(2, 2), "diverging", "incomparable"),
}


@pytest.mark.parametrize("name", CASES)
def test_verdicts(name):
    map, start, verdict, agreement = CASES[name]
    result = measured(map, start)
    assert (result.verdict.name, result.agreement.name) == (verdict, agreement)
    assert json.loads(result.to_json())["verdict"]["name"] == verdict
    assert str(result).startswith(result.verdict.sentence)
    assert result.figure().data
    if verdict == "diverging":
        assert result.exponents.isnan().all()


def test_the_henon_map_in_the_analysis():
    result = measured(henon, 0.2 * scattered(16, 2), iterations=500, examples=16)
    assert float(result.exponents[:, 0].mean()) == pytest.approx(0.419, rel=0.05)
    assert (result.exponents[:, 0] - 0.419).abs().max() < 3 * result.exponents_error[:, 0].max() + 0.01


def test_the_backward_gain_is_over_the_run():
    result = measured(lambda x: 0.5 * x, starts(1, 3), 10)
    assert result.gain_iterations == 10
    assert float(result.backward_gain) == pytest.approx(0.5**10)


@pytest.fixture(scope="module")
def loop():
    torch.manual_seed(0)
    model = ls.models.build(
        "universal", vocabulary=3, width=16, heads=2, injection="add", step_code="none", norm="stream"
    )
    return ls.record(model.eval(), torch.randint(0, 3, (3, 6)), 20)


def test_a_transformer_loop(loop):
    """The sensitivity is that of the solution: fixed points of two inputs that differ by a
    little."""
    result = ls.analyses.measure("stability", loop, examples=1, iterations=200)
    assert result.verdict.name in ("stable", "transient")
    assert result.agreement.name == "agree"
    from loopscope.dynamics.iteration_map import IterationMap
    from loopscope.maths import solve

    one = IterationMap(loop, [0])
    inputs = one.inputs()
    assert inputs is not None
    base = solve(one, one.starts, "plain", 1e-14).point
    generator = torch.Generator().manual_seed(0)
    movements = []
    for _ in range(5):
        e = inputs + 1e-6 * torch.nn.functional.normalize(
            torch.randn(inputs.shape, generator=generator, dtype=DOUBLE)
        )
        movements.append(
            float((solve(lambda x, e=e: one.with_inputs(x, e), base, "plain", 1e-15).point - base).norm())
            / 1e-6
        )
    assert max(movements) <= float(result.sensitivity) * 1.001
    assert max(movements) >= 0.05 * float(result.sensitivity)


def test_a_loop_that_is_told_its_iteration_says_what_its_jacobian_is():
    torch.manual_seed(0)
    model = ls.models.build("universal", vocabulary=3, width=8, heads=2, step_code="sinusoid").eval()
    result = ls.analyses.measure("stability", ls.record(model, torch.randint(0, 3, (2, 4)), 6), iterations=20)
    assert result.iteration_index
    assert result.agreement.name == "incomparable"
    assert "all maps are those of the iteration after the run's last" in str(result)


def test_thresholds_are_named_and_checked():
    assert "marginal within 0.01; agreement within 0.2" in str(
        measured(torch.cos, starts(1, 1), margin=0.01, tolerance=0.2)
    )
    with pytest.raises(ls.LoopscopeError, match="examples must be a whole number, 1 or more, but is 0"):
        measured(torch.cos, starts(1, 1), examples=0)
