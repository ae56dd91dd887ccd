"""Inner loops unfolded: every turn is a layer of its own, in the order in which an iteration passes
them."""

import pytest
import torch

import loopscope as ls
from loopscope.recorder.extend import continue_run
from loopscope.recorder.unroll_inner_loops import unroll_inner_loops

TASK = ls.tasks.build("sudoku", size=4)
MODEL = ls.models.build(
    "hrm", vocabulary=5, length=16, low_updates=3, cycles=2, segments=2, width=16, heads=2
).eval()
NAMES = ["low_level.0.hook_resid_post", "low_level.1.hook_resid_post", "high_level.0.hook_resid_post"]


@pytest.fixture(scope="module")
def run():
    return ls.record(MODEL, TASK.batch(3, seed=0).tokens, 4, sites=NAMES)


def test_turns_come_one_after_the_other_and_then_what_has_none(run):
    after, order = unroll_inner_loops(continue_run(run, 0, NAMES), NAMES)
    low = [f"low={turn} low_level.{layer}.hook_resid_post" for turn in range(3) for layer in range(2)]
    assert order == [*low, "high_level.0.hook_resid_post"]
    for turn in range(3):
        site = after.run[f"low={turn} low_level.1.hook_resid_post"]
        assert site.axes == ("iteration", "batch", "position", "width")
        assert torch.equal(site.tensor, run["low_level.1.hook_resid_post"].tensor[:, turn])


def test_without_an_inner_loop_nothing_changes(run):
    after = continue_run(run, 0)
    assert unroll_inner_loops(after, NAMES[2:]) == (after, NAMES[2:])


def test_analyses_of_layers_see_every_turn(run):
    cycles = ls.analyses.measure("cycles", run, extra=10)
    assert len(cycles.layers.names) == 3 * 2 + 1  # three turns of two low layers, and the high one recorded
    attention = ls.analyses.measure("attention", run, extra=4)
    assert len(attention.layers) == 8
    assert all(bound.holds for bound in attention.bounds)


def test_a_network_in_two_roles_is_two_layers():
    """TRM calls one network for both states: three low updates, and one that has no turn."""
    model = ls.models.build(
        "trm", vocabulary=5, length=16, low_updates=3, cycles=2, segments=2, width=16, heads=2
    ).eval()
    run = ls.record(model, TASK.batch(3, seed=0).tokens, 4)
    result = ls.analyses.measure("attention", run, extra=4)
    assert len(result.layers) == (3 + 1) * 2
    assert result.layers[-2:] == (
        "@iteration core.0.attn.hook_pattern",
        "@iteration core.1.attn.hook_pattern",
    )
    assert all(bound.holds for bound in result.bounds)

    # of layers that weren't recorded only the first and the last iterations are computed
    cycles = ls.analyses.measure("cycles", run, extra=10, unrolled_iterations=3)
    assert len(cycles.layers.names) == (3 + 1) * 2
