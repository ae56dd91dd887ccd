"""Adaptive computation time, against Graves' definition enumerated by hand."""

import pytest
import torch

import loopscope as ls
from loopscope.nn import ACT


def graves(ps: list[float], epsilon: float = 0.01) -> tuple[list[float], int, float]:
    """Weights, N and R of one position whose halting unit says `ps` (the last of them is the last
    iteration allowed)."""
    weights, spent = [], 0.0
    for n, p in enumerate(ps, start=1):
        if spent + p > 1 - epsilon or n == len(ps):
            return [*weights, 1 - spent], n, 1 - spent
        weights.append(p)
        spent += p
    raise AssertionError


@pytest.fixture(params=["interpolated", "accumulated"])
def run(request):
    torch.manual_seed(3)
    shape = {"vocabulary": 3, "width": 8, "heads": 2, "norm": "stream"}
    model = ls.models.build("universal", **shape, halting=request.param, halting_bias=-0.5)
    tokens = torch.randint(0, 3, (4, 6), generator=torch.Generator().manual_seed(1))
    run = ls.record(model.eval().double(), tokens, iterations=5, sites=["core_in"])
    assert run.halting.halted.any() and not run.halting.halted.all(), (
        "some halt, others are stopped by the end"
    )
    return run


def probabilities(run):
    """What the halting unit said in each iteration: (iteration, batch, position)."""
    with torch.no_grad():
        return torch.stack([run.model.act.probability(value) for value in run["core_in"]])


def test_weights_sum_to_one_at_every_position_and_match_the_enumeration(run):
    p, halting = probabilities(run), run.halting
    assert torch.allclose(halting.weights.sum(0), torch.ones(4, 6), atol=1e-6)
    for row in range(4):
        for position in range(6):
            weights, n, remainder = graves(p[:, row, position].tolist())
            padded = torch.tensor(weights + [0.0] * (run.iterations - n))
            assert torch.allclose(halting.weights[:, row, position], padded, atol=1e-6)
            assert halting.iteration[row, position] == n - 1
            assert halting.remainder[row, position].item() == pytest.approx(remainder, abs=1e-6)
            assert halting.cost[row, position].item() == pytest.approx(n + remainder, abs=1e-6)


def test_the_output_is_the_weighted_mean_or_the_running_interpolation(run):
    h, u = run.states.tensor[1:], run.halting.weights[..., None].double()
    if run.model.config.halting == "accumulated":
        expected = (u * h).sum(0)
    else:
        expected = torch.zeros_like(h[0])
        for weight, state in zip(u, h, strict=True):
            expected = weight * state + (1 - weight) * expected
        # Where the loop ended first, the latest state was mixed in by its p and is mixed in once
        # more by what was left.
        last, left = run["state.output"][-1], (1 - run["state.mass"][-1])[..., None]
        expected = torch.where(run.halting.halted[..., None], expected, last + left * (h[-1] - last))
    with torch.no_grad():
        read = run.model.act.read_vectors(run.state(-1))
    assert torch.allclose(read, expected, atol=1e-7)


def test_a_position_that_has_halted_keeps_its_output_while_its_state_goes_on():
    torch.manual_seed(0)
    model = ls.models.build("universal", vocabulary=3, width=8, heads=2, norm="stream", halting="accumulated")
    model.train()  # in training the loop is not left early
    run = ls.record(model, torch.randint(0, 3, (8, 6)), iterations=30)
    halted = run["state.mass"].tensor >= 1
    assert halted[-1].any() and len(run.halting.iteration.unique()) > 1, "some halt, and not all at once"
    still = halted[:-1][..., None]
    assert ((run["state.output"].differences().tensor == 0) | ~still).all()
    assert ((run.states.differences().tensor != 0).any(-1) | ~still[..., 0]).all()


@pytest.mark.parametrize(
    "bias, n, remainder", [(0.0, 2, 0.5), (1.0, 2, 1 - torch.tensor(1.0).sigmoid().item())]
)
def test_the_first_halting_of_a_fresh_unit_is_the_arithmetic_of_its_bias(bias, n, remainder):
    """p = 1/2 halts in the second iteration with R = 1/2; p = sigmoid(1) = 0.73 there too, with R =
    0.27."""
    act = ACT(width=4, bias=bias)
    torch.nn.init.zeros_(act.gate.weight)
    state = act.start(torch.randn(1, 1, 4))
    while not act.halted_positions(state).all():
        state = act.update(state, torch.randn(1, 1, 4), act.probability(torch.randn(1, 1, 4)))
    assert state.count.item() == n and state.remainder.item() == pytest.approx(remainder, abs=1e-6)
    assert act.ponder(state).item() == pytest.approx(n + remainder, abs=1e-6)


def test_a_deep_start_never_halts_in_eighteen_iterations():
    act = ACT(width=4, bias=-3.0, epsilon=0.05)
    torch.nn.init.zeros_(act.gate.weight)
    state = act.start(torch.randn(1, 1, 4))
    for _ in range(18):
        state = act.update(state, torch.randn(1, 1, 4), act.probability(torch.randn(1, 1, 4)))
    assert not act.halted_positions(state).any() and state.count.item() == 18
    assert state.remainder.item() == pytest.approx(1 - 17 * torch.tensor(-3.0).sigmoid().item(), abs=1e-5)


def test_evaluation_leaves_the_loop_when_every_position_has_halted_and_loses_nothing_by_it():
    torch.manual_seed(0)
    model = ls.models.build("universal", vocabulary=3, width=8, heads=2, halting="interpolated").eval()
    tokens = torch.randint(0, 3, (4, 6))
    early = ls.record(model, tokens, iterations=30)
    assert early.iterations < 30 and early.halting.halted.all()
    assert early.iterations == early.halting.iteration.max() + 1
    full = ls.record(model.train(), tokens, iterations=30)
    assert full.iterations == 30 and torch.equal(full.output, early.output)


def test_the_gradient_of_the_ponder_cost_comes_through_the_remainder_alone():
    act = ACT(width=4, bias=0.0)
    state = act.start(torch.randn(1, 1, 4))
    ps = [torch.tensor([[value]], requires_grad=True) for value in (0.3, 0.4, 0.9)]
    for p in ps:
        state = act.update(state, torch.randn(1, 1, 4), p)
    act.ponder(state).backward()
    assert [p.grad.item() for p in ps[:2]] == [-1.0, -1.0]
    assert ps[2].grad is None or ps[2].grad.item() == 0.0
