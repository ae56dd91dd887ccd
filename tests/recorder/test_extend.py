"""A run that is recorded again for more sites has the states that it had."""

import pytest
import torch

import loopscope as ls
from loopscope.recorder.extend import continue_run
from loopscope.recorder.extra_iterations import EXTRA, LONG, extra_of


def test_a_start_that_was_drawn_without_a_seed_is_the_runs_own_when_it_is_recorded_again():
    model = ls.models.load("huginn-hops")
    run = ls.record(model, model.task.batch(4, seed=100).tokens, 3)
    assert run.origin.get("seed") is None
    again = continue_run(run, 2, ["core.0.attn.hook_pattern"]).run
    assert "core.0.attn.hook_pattern" not in run.names
    for k in range(4):
        assert torch.allclose(again.states[k], run.states[k], atol=1e-6)


@pytest.mark.parametrize(("iterations", "extra"), [(1, 16), (2, 16), (4, 24), (32, EXTRA), (80, 80)])
def test_long_states_are_followed_briefly_but_far_enough_to_be_judged(iterations: int, extra: int):
    run = ls.iterate(lambda x: 0.5 * x, torch.ones(1, LONG + 1), iterations)
    assert extra_of(run, None) == extra and extra_of(run, 3) == 3
    if iterations == 1:
        assert ls.analyses.measure("cycles", run).verdict.name == "fixed_point"
