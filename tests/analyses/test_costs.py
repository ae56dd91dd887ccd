"""What the analyses of the map cost, in forward passes of the recorded batch: counts, not
seconds."""

import pytest
import torch

import loopscope as ls
from loopscope.analyses.fixed_points.iterated_starts import (  # pyright: ignore[reportMissingImports]
    LONG,
    affordable,
    iterate_starts,
    taken_in_turn,
)
from loopscope.analyses.path_independence.ends import (  # pyright: ignore[reportMissingImports]
    Ends,
    Goal,
    follow_to_end,
    run_to_end,
)
from loopscope.dynamics.limit_point import continue_to_limit
from loopscope.dynamics.outcome import end_radii
from loopscope.dynamics.point_spectrum import point_linearisation
from loopscope.maths.singular_values import row_singular_value, singular_value
from tests.toys.counted_steps import counted_steps
from tests.toys.large_loop import BlockLoop
from tests.toys.pass_counter import step_passes

ITERATIONS, EXAMPLES, POSITIONS, WIDTH = 8, 3, 4, 8


@pytest.fixture(scope="module")
def runs():
    tokens = torch.randint(0, 16, (EXAMPLES, POSITIONS), generator=torch.Generator().manual_seed(0))
    result = {}
    for fate in ("settles", "turns", "grows"):
        model = BlockLoop(fate, WIDTH, causal=False, heads=2).eval()
        result[fate] = ls.record(model, tokens, ITERATIONS)
    return result


@pytest.fixture
def long(monkeypatch):
    """States of as few numbers as these count as long."""
    monkeypatch.setattr("loopscope.analyses.fixed_points.iterated_starts.LONG", WIDTH)
    monkeypatch.setattr("loopscope.analyses.fixed_points.basins.LONG", WIDTH)
    monkeypatch.setattr("loopscope.recorder.extra_iterations.LONG", WIDTH)


def cost(run, name: str, **options) -> float:
    return step_passes(run, run.model.block, lambda: ls.analyses.measure(name, run, **options))


def test_cycles_runs_its_layers_in_the_iterations_alone_that_it_reads(runs):
    """Two passes go on with the run; one is of its first eight iterations, a quarter of the last
    two. The rest finds out which sites are in the loop, and whether the loop draws."""
    extra = 16
    assert cost(runs["settles"], "cycles", extra=extra) <= (extra + 8 + 2 + 2) / ITERATIONS


def test_cycles_of_long_states_takes_eight_passes(runs, long):
    assert cost(runs["turns"], "cycles") <= 8


def test_fixed_points_of_long_states_take_a_hundred_passes(runs, long):
    run, result = runs["turns"], []
    passes = step_passes(
        run, run.model.block, lambda: result.append(ls.analyses.measure("fixed_points", run))
    )
    assert passes <= 100
    assert result[0].starts == 3
    assert "Of 17 other starts per example 3 were followed (most=17 follows all)." in str(result[0])


def test_what_diverges_is_not_searched_for_a_point(runs):
    run, extra = runs["grows"], 96
    rows = []
    passes = step_passes(run, run.model.block, lambda: rows.append(continue_to_limit(run, None, extra)[1]))
    assert bool(rows[0].diverges.all())
    assert passes <= (ITERATIONS + extra + 2) / ITERATIONS


def recorded(fate: str, causal: bool = False) -> ls.Run:
    tokens = torch.randint(0, 16, (EXAMPLES, POSITIONS), generator=torch.Generator().manual_seed(0))
    return ls.record(BlockLoop(fate, WIDTH, causal=causal, heads=2).eval(), tokens, ITERATIONS)


@pytest.mark.parametrize(("fate", "part"), [("settles", 0.5), ("turns", 0.1)])
def test_starts_that_one_analysis_has_followed_are_not_followed_again(fate, part):
    """Those that come to a point are followed no further than decides, those that go on were
    followed to their end."""
    first, second = recorded(fate), recorded(fate)
    ls.analyses.measure("fixed_points", first)
    results = []
    counts = []
    for run in (first, second):
        with counted_steps(run.model) as steps:
            results.append(ls.analyses.measure("path_independence", run))
        counts.append(steps.rows)
    starts, iterations = results[0].starts * EXAMPLES, results[0].iterations
    assert counts[0] <= part * starts * iterations
    again, alone = results
    assert again.verdict is alone.verdict
    for one, other in zip(again.kinds, alone.kinds, strict=True):
        assert torch.allclose(one.alignment, other.alignment, atol=1e-6)
        assert torch.allclose(one.distance, other.distance, atol=1e-9, rtol=1e-4)
        assert torch.equal(one.same(0.99, 1e-3), other.same(0.99, 1e-3))


def test_where_starts_end_is_where_all_iterations_lead():
    """A row that is left at its goal would have come there, to rounding; one that turns goes on, as
    does one that has too few iterations left."""
    for fate, iterations, part in (("settles", 600, 0.4), ("settles", 120, 1.0), ("turns", 120, 1.0)):
        run, generator = recorded(fate), torch.Generator().manual_seed(1)
        loop, limit = continue_to_limit(run, None, 100)
        x = limit.states[0] + torch.randn(limit.states[0].shape, generator=generator).double()
        attracts = fate == "settles"
        point = limit.point if attracts else torch.full_like(limit.point, torch.nan)
        goal = Goal(point, 1e-3 * limit.scale, torch.full_like(limit.scale, 0.9))
        used = torch.zeros(len(x), dtype=torch.int64)
        with counted_steps(run.model) as steps:
            ends = follow_to_end(loop, Ends(x, x, -1), used, iterations, goal=goal)
        every = run_to_end(loop, x, iterations)
        assert torch.allclose(ends.states, every.states, rtol=0, atol=1e-12)
        assert torch.allclose(ends.earlier, every.earlier, rtol=0, atol=1e-12)
        assert ends.overflow == every.overflow == -1
        assert steps.rows <= part * iterations * len(x)
        assert attracts or steps.rows == iterations * len(x)


def test_the_whole_jacobian_at_a_point_is_formed_once():
    """For the eigenvalues, and with these the largest singular value costs no product."""
    run = recorded("settles", causal=True)
    loop, limit = continue_to_limit(run, None, 40)
    end_radii(loop, limit)
    with counted_steps(run.model) as steps:
        values = [row_singular_value(point_linearisation(loop, limit, row), 0) for row in range(EXAMPLES)]
    assert (steps.rows, steps.products) == (0, 0)
    assert values == pytest.approx(singular_value(loop, limit.point).tolist())


def test_a_start_is_followed_no_further_than_decides_and_ends_at_its_goal(runs):
    loop, limit = continue_to_limit(runs["settles"], None, 150)
    starts = limit.point + torch.randn(limit.point.shape, generator=torch.Generator().manual_seed(0)).double()
    results = []
    for goal in (limit.point, torch.full_like(limit.point, torch.nan)):
        calls = []

        def counted(x, calls=calls):
            calls.append(len(x))
            return loop(x)

        options = {"iterations": 400, "length": 24, "size": limit.size, "tolerance": 1e-8}
        ends = iterate_starts(counted, starts, goal=goal, near=1e-3 * limit.size, **options)
        results.append((len(calls), ends))
    (short, near), (whole, far) = results
    assert short < 0.6 * whole
    assert bool(near.converged.all()) and bool(far.converged.all())
    assert torch.equal(near.point, limit.point)
    assert torch.allclose(near.point, far.point, atol=1e-6)
    assert torch.equal(near.early, far.early)


def test_starts_that_can_be_afforded_are_of_each_kind_in_turn():
    assert taken_in_turn([2, 4, 1, 12], 5) == [0, 2, 6, 7, 8]
    assert taken_in_turn([2, 4, 1, 12], None) == list(range(19))
    assert affordable(LONG, 104, 8) is None
    assert [affordable(LONG + 1, 96 + t, t) for t in (1, 8, 32)] == [3, 3, 10]
