"""Stability: three measures of one contraction agree, and maps that don't settle get a verdict
instead."""

import json
import math
import warnings

import pytest
import torch
from torch import Tensor

import loopscope as ls
from loopscope.analyses.stability import headline, panels  # pyright: ignore[reportMissingImports]
from loopscope.analyses.stability.agreement import Agreement, agreement_of  # pyright: ignore[reportMissingImports]
from loopscope.analyses.stability.jacobian import Jacobians  # pyright: ignore[reportMissingImports]
from loopscope.analyses.stability.verdict import StabilityVerdict, verdict_of, verdict_over  # pyright: ignore[reportMissingImports]
from loopscope.dynamics.outcome import Outcome
from loopscope.maths.contraction_rate import no_rate
from loopscope.plots import style

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


NAN = math.nan
# by verdict: outcome, radius, its error, singular value, exponent, its error
BY_HAND: dict[str, list[tuple[Outcome, float, float, float, float, float]]] = {
    "stable": [("converged", 0.5, 0.0, 0.9, -0.69, 0.0), ("approaching", 0.5, NAN, 1.0, -0.69, 0.0)],
    "transient": [("converged", 0.5, 0.0, 1.5, -0.69, 0.0), ("converged", NAN, NAN, 1.5, -0.69, 0.01)],
    "marginal": [("converged", 1.0, 0.0, 1.0, 0.0, 0.0)],
    "unstable": [("unstable", 2.0, 0.0, 2.0, 0.69, 0.0)],
    "contracting": [("moving", 2.0, 0.0, 2.0, -0.5, 0.1), ("elsewhere", NAN, NAN, NAN, -math.inf, 0.0)],
    "neutral": [
        ("moving", 1.0, 0.0, 1.0, 0.0, 0.001),
        ("moving", NAN, NAN, NAN, 0.005, 0.001),
        ("elsewhere", NAN, NAN, NAN, -0.005, 0.001),
    ],
    "expanding": [("moving", 1.0, 0.0, 1.0, 0.4, 0.05)],
    "diverging": [("growing", NAN, NAN, NAN, NAN, NAN)],
    "contradictory": [("converged", 0.5, 0.0, 0.9, 0.5, 0.01), ("unstable", 2.0, 0.0, 2.0, -0.5, 0.01)],
    "unresolved": [("unresolved", 0.5, 0.0, 0.5, -0.7, 0.0)],
    "unclear": [
        ("converged", NAN, NAN, 0.9, NAN, NAN),  # neither radius nor exponent is known
        ("converged", 0.5, 0.0, NAN, -0.69, 0.0),  # stable or transient
        ("converged", 0.999, 0.01, 0.9, -0.001, 0.0),  # the radius' error reaches across 1
        ("moving", NAN, NAN, NAN, NAN, NAN),
        ("moving", NAN, NAN, NAN, 0.03, 0.05),  # the exponent's interval reaches from decay to growth
    ],
}


@pytest.mark.parametrize("verdict", [v for v in StabilityVerdict if v.name != "mixed"], ids=lambda v: v.name)
def test_every_verdict_on_an_example_is_reached_by_hand(verdict):
    for outcome, radius, radius_error, singular, exponent, error in BY_HAND[verdict.name]:
        found = verdict_of(
            outcome,
            radius=radius,
            radius_error=radius_error,
            singular=singular,
            exponent=exponent,
            error=error,
            margin=1e-3,
            iterations=1000,
        )
        assert found is verdict


@pytest.mark.parametrize("agreement", Agreement, ids=lambda v: v.name)
def test_measures_are_compared_where_two_are_known(agreement):
    """A radius of 1/2 beside a rate or an exponent that is the same, another, or unknown."""
    half, nan = torch.tensor([0.5], dtype=DOUBLE), torch.tensor([NAN], dtype=DOUBLE)
    local = Jacobians(half[:, None] + 0j, half, 0 * half, half, half, half, ("",))
    exponents = {"agree": half.log(), "disagree": half.log() + 0.3, "incomparable": nan}[agreement.name]
    errors = torch.full((1, 1), 0.01, dtype=DOUBLE)
    found = agreement_of(
        [0], local, exponents[:, None], errors, rates=[no_rate("it never moves")], tolerance=0.05
    )
    assert found.verdict is agreement
    assert "unknown" not in found.sentence
    if agreement is Agreement.incomparable:
        assert "can't be compared" in found.sentence
        assert math.isnan(found.gap)
    else:
        assert "No fitted contraction rate of the example's distance is known." in found.sentence
        agree, sentence = agreement is Agreement.agree, found.sentence
        assert f"agree within their errors in {1 if agree else 'none'} of 1 example" in sentence
        assert ("; they disagree by up to" in sentence) == (not agree) and "elsewhere" not in sentence


def test_what_is_not_there_is_not_said():
    """Chaos has no fixed point that could move with the input, and no radius there."""
    text = str(measured(henon, torch.tensor([[0.1, 0.1]], dtype=DOUBLE)))
    for word in ("unknown", "nan", "fixed point moves", "Spectral radius"):
        assert word not in text


def test_a_verdict_of_examples_that_differ_counts_them():
    start = torch.cat([torch.full((6, 1), -0.5), torch.full((6, 1), 0.3)]).double()
    result = measured(lambda x: torch.where(x < 0, 0.5 * x - 0.5, 3.2 * x * (1 - x)), start)
    assert result.verdict.name == "mixed"
    assert "“The fixed point that the loop reaches or approaches is stable”: 6 of 12 examples" in str(result)
    value, caption = headline(result)
    assert (value, caption) == ("0.5", "spectral radius at the fixed point, median of 6 of 12 examples")


def test_numbers_of_runs_are_called_alike_however_many_examples_have_them():
    """A page of several runs puts them into one row by their names."""
    names, shares = [], []
    for count in (6, 1):
        start = torch.cat([torch.full((count, 1), -0.5), torch.full((12 - count, 1), 0.3)]).double()
        result = measured(lambda x: torch.where(x < 0, 0.5 * x - 0.5, 3.2 * x * (1 - x)), start)
        *medians, share = result.evidence.estimates
        names.append([estimate.name for estimate in medians])
        shares.append((share.name, share.value))
    assert names[0] == names[1]
    assert names[0][0] == "spectral radius at the fixed point, median of examples at one or near it"
    name = "share of examples at a fixed point or near one"
    assert shares == [(name, 0.5), (name, 1 / 12)]
    assert "Spectral radius at the fixed point: 0.5 over 1 example" in str(result)


@pytest.mark.parametrize(
    ("stable", "transient", "others", "expected"),
    [
        (12, 0, 0, "stable"),
        (11, 1, 0, "unclear"),
        (6, 6, 0, "transient"),
        (0, 12, 0, "transient"),
        (0, 1, 0, "transient"),
        (3, 3, 6, "mixed"),
        (0, 11, 1, "unclear"),
    ],
)
def test_examples_that_attract_differ_only_in_whether_differences_can_grow(
    stable, transient, others, expected
):
    """So they make no mixture: growth that some examples have is possible in the loop."""
    verdicts = [StabilityVerdict.stable] * stable + [StabilityVerdict.transient] * transient
    verdict, evidence = verdict_over(verdicts + [StabilityVerdict.expanding] * others)
    assert verdict.name == expected
    assert evidence.examples == stable + transient + others
    assert len(evidence.alternatives) == (2 if expected == "unclear" else 0)


def test_neutral_is_symmetric_so_that_a_slowing_drift_is_no_decay():
    """Steps of 1 / k along a line: differences fall as a power law, which has no rate."""
    result = measured(lambda x: x + torch.exp(-x), starts(3, 1), iterations=64)
    assert result.verdict.name == "neutral"
    assert "cycle" not in str(result)


def test_eigenvalues_that_mean_nothing_are_not_drawn():
    assert not panels(measured(lambda x: x * x, 3 + 0 * starts(2, 2)))  # it overflows


def test_the_figure_of_eigenvalues_is_square_and_says_where_they_are_from():
    for map, words in ((torch.cos, "at the fixed point."), (lambda x: 3.2 * x * (1 - x), "the last state")):
        result = measured(map, 0.3 + 0 * starts(12, 1))
        (panel,) = panels(result)
        assert words in panel.reading
        layout = panel.figure.layout
        spans = [axis.range[1] - axis.range[0] for axis in (layout.xaxis, layout.yaxis)]
        assert spans[0] == pytest.approx(spans[1])
        assert layout.xaxis.range[0] < -1 and layout.xaxis.range[1] > 1
        legend = [trace.name for trace in panel.figure.data if trace.showlegend is not False]
        assert len(legend) <= style.LEGEND_ENTRIES
        assert len({(t.marker.color, t.marker.symbol) for t in panel.figure.data[1:]}) == 12


def test_eigenvalues_far_outside_the_circle_are_counted_not_drawn():
    result = measured(lambda x: x @ torch.diag(torch.tensor([-9.0, 0.5], dtype=DOUBLE)), starts(2, 2) * 0)
    panel = panels(result)[0]
    points = [trace for trace in panel.figure.data if trace.mode == "markers"]
    assert all(list(trace.x) == [0.5] for trace in points)
    assert max(abs(end) for end in panel.figure.layout.xaxis.range) < 2
    assert "An eigenvalue lies outside the circle in 2 of the 2 taken at the fixed point" in panel.observation
    assert "; not drawn: 2 of 4 eigenvalues, of moduli above 3 and up to 9." in panel.observation
