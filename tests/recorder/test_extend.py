"""A run that is recorded again for more sites has the states that it had."""

import torch

import loopscope as ls
from loopscope.recorder.extend import continue_run


def test_a_start_that_was_drawn_without_a_seed_is_the_runs_own_when_it_is_recorded_again():
    model = ls.models.load("huginn-hops")
    run = ls.record(model, model.task.batch(4, seed=100).tokens, 3)
    assert run.origin.get("seed") is None
    again = continue_run(run, 2, ["core.0.attn.hook_pattern"]).run
    assert "core.0.attn.hook_pattern" not in run.names
    for k in range(4):
        assert torch.allclose(again.states[k], run.states[k], atol=1e-6)
