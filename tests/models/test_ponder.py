"""PonderNet: its equations, its halting, and that nothing but its own chances decide when it
stops."""

import torch

import loopscope as ls
from loopscope.nn import Positions

from ..toys.reference_equations import shaken

TASK = ls.tasks.build("parity-ones", length=6)


def built(**config):
    shape = {"vocabulary": 3, "width": 8, "heads": 2, "iterations": 5}
    return ls.models.build("ponder", **(shape | config))


TOKENS = TASK.batch(4, seed=0).tokens


def test_the_forward_pass_is_the_docstrings_equations():
    model = shaken(built(threshold=1.0))
    e = model.placed.embed.table.weight[TOKENS]
    h, positions = e, Positions.of(e, causal=False, rotary=4)
    for _ in range(5):
        h = model.core[0](h + e, positions)
    assert torch.allclose(model(TOKENS), h @ model.unembed.weight.T + model.unembed.bias, atol=1e-12)


def test_every_position_sees_every_other():
    model, other = shaken(built(threshold=1.0)), TOKENS.clone()
    other[:, 0] = 1 - other[:, 0]
    assert (ls.record(model, TOKENS, 1).states[1] != ls.record(model, other, 1).states[1]).any(-1).all()


def test_the_chances_of_stopping_sum_to_one_and_the_last_takes_the_rest():
    run = ls.record(shaken(built(threshold=1.0)), TOKENS)
    chance = run["state.exit_probability"].tensor[1:].float()
    expected = [chance[t] * (1 - chance[:t]).prod(0) for t in range(4)] + [(1 - chance[:4]).prod(0)]
    torch.testing.assert_close(run.halting.weights, torch.stack(expected))
    torch.testing.assert_close(run.halting.weights.sum(0), torch.ones(4, 7))


def test_it_stops_at_the_median_of_its_own_distribution():
    model = shaken(built(iterations=12, threshold=0.5))
    with torch.no_grad():
        model.exit.gate.weight.zero_()
        model.exit.gate.bias.fill_(-1.0986122886681098)  # a chance of 1/4: 1 - (3/4)^2 < 1/2 < 1 - (3/4)^3
    run = ls.record(model, TOKENS)
    assert run.iterations == 3
    assert (run.halting.iteration == 2).all()
    assert run.halting.halted.all()


def test_in_training_nothing_is_frozen():
    model = shaken(built(iterations=12, threshold=0.5)).train()
    run = ls.record(model, TOKENS)
    assert run.iterations == 12
    assert torch.equal(run["state.answer"][-1], run.states[-1])
