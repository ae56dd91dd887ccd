"""Fixed points: what the loop visits, and maps that have none, one, or several."""

import itertools
import json
import warnings
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import loopscope as ls
from loopscope import maths
from loopscope.nn import LoopedModule

from ..maths.test_fixed_point import starts
from ..maths.test_spectrum import KINDS, matrix, rotation
from ..toys.flip_flop import trained
from ..toys.foreign_loops import Nested, batch, build_loop

DOUBLE = torch.float64


def measured(map, start: Tensor, iterations: int = 64, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ls.LoopscopeWarning)  # of an overflow, which the verdict names
        run = ls.iterate(map, start, iterations)
    return ls.analyses.measure("fixed_points", run, **options)


# Three bits


@pytest.fixture(scope="module")
def net():
    return trained()


def test_a_net_that_keeps_three_bits_has_eight_stable_points_and_saddles_between_them(net):
    """Golub & Sussillo 2018's test: one stable point per memory, found from noisy starts among
    them, and saddles."""
    W, b = net["W"], net["b"]

    def map(h: Tensor) -> Tensor:
        return torch.tanh(h @ W.T + b)

    bits = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=DOUBLE)] * 3)
    kept = torch.tanh(bits @ net["V"].T + b)
    for _ in range(50):
        kept = map(kept)
    weights = torch.rand(300, 8, generator=torch.Generator().manual_seed(0), dtype=DOUBLE) ** 2
    among = weights / weights.sum(1, keepdim=True) @ kept
    between = torch.stack([(one + other) / 2 for one, other in itertools.combinations(kept, 2)])
    result = maths.solve(
        map, torch.cat([kept, between, among + 0.1 * starts(300, len(b))]), "newton", max_iterations=100
    )
    points = result.point[result.converged]
    labels = maths.cluster(points, 1e-4)
    distinct = torch.stack([points[labels == label][0] for label in range(int(labels.max()) + 1)])
    assert torch.allclose(map(distinct), distinct, atol=1e-9)
    values = maths.eigenvalues(map, distinct, count=len(b))
    directions = (values.abs() > 1).sum(1)
    stable = distinct[directions == 0]
    memories = (stable @ net["R"].T).round()
    assert sorted(memories.tolist()) == sorted(bits.tolist())
    assert (directions == 1).sum() >= 12, "between any two memories that differ in one bit there is a saddle"
    assert len(distinct) >= 20


def test_the_loop_of_that_net_is_told_to_have_several_attractors(net):
    start = torch.tanh(torch.tensor([[1.0, 1.0, -1.0], [-1.0, 1.0, 1.0]], dtype=DOUBLE) @ net["V"].T)
    result = measured(lambda h: torch.tanh(h @ net["W"].T + net["b"]), start, random=12)
    assert result.verdict.name == "several"
    assert {p.stable for p in result.points} == {True, False}


# What the loop visits


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("radius", [0.5, 0.9, 0.97])
@pytest.mark.parametrize("kind", KINDS)
def test_the_rate_and_radius_of_a_linear_loop(kind, radius, dtype):
    A = matrix(kind, radius, 4).to(dtype)
    if kind.startswith("non-normal"):  # 20 times as far off the diagonal as float32 has room for
        A = A if dtype == DOUBLE else torch.where(torch.eye(4).bool() | (A.abs() < 1), A, A / 20)
    result = measured(lambda x: x @ A.T + 1, starts(2, 4, dtype=dtype), 300)
    assert result.verdict.name in ("one", "approaching")
    assert result.radius.tolist() == pytest.approx([radius] * 2, rel=1e-3)
    if dtype == DOUBLE:
        assert result.rate.tolist() == pytest.approx([radius] * 2, rel=1e-3)
    else:  # seven digits may be too few for 0.1 %, but then the error says so
        known = ~result.rate.isnan()
        assert ((result.rate - radius).abs() <= 1e-3 * radius + 3 * result.rate_error)[known].all()


CASES = {
    "two attractors": (lambda z: torch.tanh(2 * z), starts(3, 2).abs(), "several"),
    "two, in one dimension": (lambda z: z - 0.3 * (z**3 - z), 0.3 + 0 * starts(1, 1), "several"),
    "none, drifting": (lambda z: z + 1, starts(3, 2), "none"),
    "none, drifting ever slower": (lambda z: z + torch.exp(-z), starts(3, 2), "none"),
    "diverging": (lambda z: 2 * z, starts(3, 2), "diverging"),
    "diverging slowly": (lambda z: 1.02 * z, starts(3, 2), "diverging"),
    "diverging in float32": (lambda z: 2 * z, starts(3, 2).float(), "diverging"),
    "diverging as it turns": (
        lambda z: 1.1 * z.roll(1, -1) * torch.tensor([1, -1]),
        starts(3, 2),
        "diverging",
    ),
    "diverging, by squares": (lambda z: z**2 + 2, starts(4, 6), "diverging"),
    "diverging, NaN": (lambda z: torch.where(z.abs() > 5, float("nan"), 1.3 * z), starts(4, 6), "diverging"),
    "diverging, NaN at once": (lambda z: z * float("nan"), starts(2, 2), "diverging"),
    "none, turning for ever": (lambda z: z @ rotation(1.0, 2.4).T, starts(3, 2), "none"),
    "none, of period 2": (lambda z: 3 - z, starts(3, 2), "none"),
    "none, logistic cycle": (lambda z: 3.2 * z * (1 - z), 0.3 + 0 * starts(2, 1), "none"),
    "none, chaos": (lambda z: 4 * z * (1 - z), torch.tensor([[0.3], [0.41]], dtype=DOUBLE), "none"),
    "unstable, begun upon": (lambda z: 2 * z, 0 * starts(2, 2), "unstable"),
    "one": (torch.cos, starts(3, 2), "one"),
    "one at the origin": (lambda z: 0.5 * z, starts(3, 2), "one"),
    "one, at once": (lambda z: 0 * z + 3, starts(3, 2), "one"),
    "one that is the origin, at once": (lambda z: 0 * z, starts(3, 2), "one"),
    "one, of one example": (torch.cos, starts(1, 1), "one"),
    "one, in a nilpotent loop": (
        lambda z: z.roll(1, -1) * torch.tensor([0, 1, 1, 1]) + 1,
        starts(2, 4),
        "one",
    ),
    "slow": (lambda z: 0.999 * z + 1, starts(3, 2), "approaching"),
    "all of them": (lambda z: z, starts(3, 2), "several"),
}


@pytest.mark.parametrize("name", CASES)
def test_verdicts(name):
    map, start, verdict = CASES[name]
    result = measured(map, start)
    assert result.verdict.name == verdict
    assert set(result.verdicts) == {result.verdict}
    assert str(result).startswith(result.verdict.sentence)
    if verdict not in ("one", "several", "approaching"):
        assert result.rate.isnan().all()
        assert (result.reached == -1).all()
    assert json.loads(result.to_json())["verdict"]["name"] == verdict
    assert result.figure().data


def test_an_escape_of_a_solver_is_no_find():
    """Anderson's mixing of x + 1 leaps to 1e13, where a step of 1 is lost in rounding."""
    result = measured(lambda z: z + 1, starts(3, 2))
    assert result.points == ()
    assert result.solver_distance.isnan().all()


def test_with_positions_and_in_other_precisions():
    """Position 0 contracts by 0.5, position 1 by 0.8; each has its own time and rate."""
    factor = torch.tensor([0.5, 0.8])[:, None]
    result = measured(
        lambda x: factor * x + 1, torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(0)), 80
    )
    assert result.rate_by_position[:, 0].tolist() == pytest.approx([0.5] * 2, rel=1e-3)
    assert result.rate_by_position[:, 1].tolist() == pytest.approx([0.8] * 2, rel=1e-3)
    assert (result.reached_by_position[:, 0] < result.reached_by_position[:, 1]).all()
    assert result.rate.tolist() == pytest.approx([0.8] * 2, rel=1e-3)


def test_overflow_is_named_at_the_state_where_it_begins():
    result = measured(lambda z: z * z, torch.tensor([[3.0], [0.5], [3.0], [0.4]]), 20, double=False)
    assert result.overflow.tolist() == [7, -1, 7, -1]  # 3^(2^7) > 2^128
    assert result.verdict.name == "mixed"
    assert [verdict.name for verdict in result.verdicts][0] == "diverging"
    assert "NaN or infinity begins at state 7." in str(result)


def test_the_solver_and_the_loop_are_told_apart():
    result = measured(lambda z: 3 - z, torch.tensor([[0.2]], dtype=DOUBLE))
    assert [float(p.state) for p in result.points] == pytest.approx([1.5])
    assert float(result.solver_distance) > 0.1
    assert "the solver's fixed point is not where the loop ends" in str(result)


def test_input_dependence_and_reading():
    """x* = e / (1 - 0.5) for the loop that reads its input, the same for all for the one that
    doesn't."""
    torch.manual_seed(0)
    build = {"vocabulary": 5, "width": 8, "heads": 2, "step_code": "none", "norm": "stream"}
    tokens = torch.randint(0, 5, (3, 4))
    for injection, reads in (("add", True), ("none", False)):
        run = ls.record(ls.models.build("universal", injection=injection, **build).eval(), tokens, 16)
        result = ls.analyses.measure("fixed_points", run)
        assert result.reads_input is reads


def test_a_loop_that_is_told_its_iteration_has_no_fixed_point_as_such():
    torch.manual_seed(0)
    model = ls.models.build("universal", vocabulary=3, width=8, heads=2, step_code="sinusoid").eval()
    run = ls.record(model, torch.randint(0, 3, (2, 4)), 6)
    result = ls.analyses.measure("fixed_points", run)
    assert result.verdict.name == "iteration_dependent"
    assert result.points == ()
    assert json.loads(result.to_json())["reachability"] is None


class Pair(NamedTuple):
    """A high and a low state, as HRM has them."""

    high: Tensor
    low: Tensor


class TwoStates(LoopedModule):
    """low <- low / 2 + mean(high) / 4 + 1, high <- (high + low) / 4: the fixed point is high = 4 /
    5, low = 12 / 5."""

    def __init__(self) -> None:
        super().__init__(iterations=40, vocabulary=2, fields=Pair._fields)
        self.setup()

    def encode(self, tokens: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(tokens, 2).double()

    def initial(self, context: Tensor) -> Pair:
        return Pair(context, torch.zeros_like(context[..., :1]))

    def decode(self, state: Pair, context: Tensor) -> Tensor:
        return state.high

    def step(self, state: Pair, context: Tensor, t: int) -> Pair:
        low = state.low / 2 + state.high.mean(-1, keepdim=True) / 4 + 1
        return Pair((state.high + low) / 4, low)


def test_a_state_of_two_tensors_is_taken_whole():
    result = ls.analyses.measure("fixed_points", ls.record(TwoStates(), torch.tensor([[0, 1], [1, 1]])))
    assert result.verdict.name == "one"
    assert result.points[0].state.shape == (2 * (2 + 1),)
    assert sorted(set((result.points[0].state * 5).round().tolist())) == [4, 12]
    dense = torch.tensor(
        [[5 / 16, 1 / 8], [1 / 4, 1 / 2]]
    )  # after (high, low), once high's two numbers are one
    assert result.radius.tolist() == pytest.approx(
        [float(torch.linalg.eigvals(dense).abs().max())] * 2, rel=1e-3
    )


def test_what_only_keeps_accounts_of_a_state_is_no_part_of_it():
    """Halting's sums rest wherever they happen to: with them every loop would have as many
    attractors as starts."""
    torch.manual_seed(0)
    model = ls.models.build(
        "universal",
        vocabulary=3,
        width=8,
        heads=2,
        step_code="none",
        norm="stream",
        injection="add",
        halting="interpolated",
    ).eval()
    run = ls.record(model, torch.randint(0, 3, (2, 4)), 12)
    result = ls.analyses.measure("fixed_points", run, random=1, perturbed=1)
    assert result.points[0].state.shape == (4 * 8,)
    assert result.verdict.name == "one"


def test_runs_that_cannot_be_iterated_say_so(tmp_path):
    wrapped = ls.record(ls.wrap(build_loop(Nested), body="high"), batch())
    torch.manual_seed(0)
    model = ls.models.build("universal", vocabulary=3, width=8, heads=2).eval()
    tokens = torch.randint(0, 3, (2, 4))
    part = ls.record(model, tokens, 4, keep=ls.keep.positions(-1))
    path = ls.record(model, tokens, 4).save(tmp_path / "run.safetensors")
    for run, text in (
        (wrapped, "wrapped by its loop body alone"),
        (part, "whole states are needed"),
        (ls.load_run(path), "loaded from a file and knows no model"),
    ):
        for name in ("fixed_points", "stability", "path_independence"):
            with pytest.raises(ls.LoopscopeError, match=text):
                ls.analyses.measure(name, run)


def test_thresholds_are_named_and_checked():
    result = measured(torch.cos, starts(1, 1), merge_distance=0.01, tolerance=1e-5)
    assert (result.merge_distance, result.tolerance) == (0.01, 1e-5)
    assert "count as the same if they lie within 0.01 of norm and range" in str(result)
    with pytest.raises(ls.LoopscopeError, match="examples must be a whole number, 1 or more, but is 0"):
        measured(torch.cos, starts(1, 1), examples=0)


def test_reaching_has_one_criterion_for_examples_and_other_starts():
    """Of a contraction by a half from starts as large as the state, all come within 0.001 in 24
    iterations, and none in 4, though a residual of 1e-6 takes about 20."""
    for iterations, share in ((24, 1.0), (4, 0.0)):
        run = ls.iterate(lambda x: 0.5 * x + 1, torch.full((3, 2), 5.0, dtype=torch.float64), iterations)
        result = ls.analyses.measure("fixed_points", run, perturbed=0, exchanged=0)
        assert result.reachability == share
        assert bool((result.reached <= iterations).all()) is (share == 1.0)
    short = ls.iterate(lambda x: 0.5 * x + 1, torch.full((3, 2), 5.0, dtype=torch.float64), 14)
    result = ls.analyses.measure("fixed_points", short, perturbed=0, exchanged=0)
    assert result.reachability == 1.0  # within 0.001 of the point, but not at a residual of 1e-6
    assert "come within 0.001 of norm and range" in str(result)


def test_one_rate_measured_several_times_is_no_sample():
    start = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    text = str(ls.analyses.measure("fixed_points", ls.iterate(lambda x: 0.5 * x + 1, start, 24)))
    assert "0.5 per iteration in each of 4 examples" in text and "not a sample" in text
    assert "(0.5 to 0.5)" not in text


@pytest.mark.parametrize("map", [lambda z: 17 * z, lambda z: z**2 + 2], ids=["by a factor", "to an overflow"])
def test_a_path_that_grows_is_drawn_while_it_can_be_compared_with_its_start(map):
    result = measured(map, starts(4, 6))
    figure = result.figure()
    paths = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert len(paths) == 4
    for path in paths:
        points = torch.tensor([path.x, path.y], dtype=DOUBLE).T
        away = (points - points[0]).norm(dim=1)
        assert len(points) >= 2 and away.max() <= 100 * away[1]


def test_a_path_that_does_not_grow_is_drawn_however_far_it_goes():
    result = measured(lambda z: 0.9 * z, torch.tensor([[1.0, 0.0]], dtype=DOUBLE) * 1e6)
    assert len(result.figure().data[0].x) == min(64, len(result.trajectories[0]))
