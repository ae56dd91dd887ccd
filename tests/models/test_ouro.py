"""Ouro: its equations, its exits, and which weights a stage moves."""

import pytest
import torch

import loopscope as ls
from loopscope.training import Exits, Full, Gate
from loopscope.training.supervision import StepInputs

from ..toys.reference_equations import branch, rms, shaken

TASK = ls.tasks.build("mano", modulus=5, operators=2)


def built(**config):
    shape = {"vocabulary": TASK.vocabulary, "width": 8, "heads": 2, "hidden": 12, "iterations": 3}
    return ls.models.build("ouro", **(shape | config))


def tokens(size=3):
    return TASK.batch(size, seed=0).tokens


def test_the_forward_pass_is_the_docstrings_equations():
    model = shaken(built())
    h = model.embed.table.weight[tokens()]
    going, chances = 1.0, []
    for _ in range(3):
        for block in model.core:
            h = branch(block, h)
        h = rms(h, model.ln_core)  # the normed state is what the next iteration reads
        chances.append(torch.sigmoid(h @ model.exit.gate.weight[0] + model.exit.gate.bias))
        going = going * (1 - chances[-1])
    assert torch.allclose(model(tokens()), h @ model.unembed.weight.T, atol=1e-5)
    run = ls.record(model, tokens())
    assert torch.allclose(run["state.exit_probability"].tensor[1:], torch.stack(chances), atol=1e-5)
    assert torch.allclose(run["state.survival"][-1], going, atol=1e-5)


def test_a_stack_counts_once_however_often_it_loops():
    d, v, hidden, layers = 8, TASK.vocabulary, 12, 2
    block = 4 * d * d + 3 * d * hidden + 4 * d
    for iterations in (1, 4):
        model = built(iterations=iterations)
        assert sum(p.numel() for p in model.parameters()) == 2 * v * d + layers * block + d + d + 1


def test_the_exit_distribution_sums_to_one_and_is_the_gates():
    model = shaken(built(iterations=5))
    run = ls.record(model, tokens(), 5)
    weights = run.halting.weights
    torch.testing.assert_close(weights.sum(0), torch.ones_like(weights[0]))
    chance = run["state.exit_probability"].tensor[1:].float()
    torch.testing.assert_close(weights[1], chance[1] * (1 - chance[0]))


def test_a_position_that_has_stopped_keeps_its_answer_while_others_go_on():
    model = shaken(built(iterations=6, threshold=0.6))
    run = ls.record(model, tokens(), 6)
    summed = 1 - run["state.survival"].tensor
    stop = (summed >= 0.6).int().argmax(0)  # the first k by which it has stopped
    assert (stop > 0).all()
    assert len(stop.unique()) > 1
    answers, states = run["state.answer"].tensor, run.states.tensor
    for (b, p), k in ((place, int(stop[place])) for place in ((0, 2), (1, 5), (2, 7))):
        assert torch.equal(answers[k:, b, p], states[k, b, p].expand(run.iterations + 1 - k, -1))
    assert torch.equal(run.halting.iteration, stop - 1)
    assert run.iterations == min(6, int(stop.max())), "when all have stopped, the loop is left"


def test_nothing_stops_at_threshold_one():
    assert ls.record(shaken(built()), tokens()).iterations == 3


def moved(model, supervision):
    batch = TASK.batch(4, seed=1)
    inputs = StepInputs(
        model, TASK, batch.tokens, batch.targets, batch.mask, 3, Full(), torch.Generator().manual_seed(0)
    )
    model.train().zero_grad()
    supervision(inputs).loss.backward()
    return {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}


@pytest.mark.parametrize("threshold", [1.0, 0.1])
def test_the_first_stage_moves_everything_and_the_second_the_gate_alone(threshold):
    model = built(threshold=threshold)
    assert moved(model, Exits(0.1)) == {name for name, _ in model.named_parameters()}
    assert moved(model, Gate()) == {"exit.gate.weight", "exit.gate.bias"}
