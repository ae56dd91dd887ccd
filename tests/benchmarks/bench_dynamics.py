"""The leading eigenvalue, beside the dense Jacobian.

A loop of 4,096 numbers. Both ways are run once, by the clock on the wall.
"""

import statistics
import time

import pytest
import torch

import loopscope as ls
from loopscope import maths
from loopscope.dynamics.iteration_map import IterationMap

POSITIONS, WIDTH = 32, 128


def seconds(call, rounds: int = 1) -> float:
    result = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        result.append(time.perf_counter() - start)
    return statistics.median(result)


@pytest.mark.parametrize("injection", ["none", "add"])
def test_leading_eigenvalue_of_a_4096_dimensional_loop(benchmark, say, injection):
    """Against the dense way, taken once: torch.autograd.functional.jacobian, and LAPACK's
    eigenvalues of it.

    Without injection one eigenvalue leads; with it, in a loop that isn't trained, many crowd at the
    edge, which is the harder case.
    """
    torch.manual_seed(0)
    norm = "stream" if injection == "add" else "pre"
    model = ls.models.build(
        "universal", vocabulary=16, width=WIDTH, heads=4, injection=injection, step_code="none", norm=norm
    ).eval()
    run = ls.record(model, torch.randint(0, 16, (1, POSITIONS)), 24)
    loop = IterationMap(run, double=False)
    state = loop.at(24, run)
    assert state.shape == (1, POSITIONS * WIDTH)
    result = []

    def leading():
        result.append(float(maths.spectral_radius(loop, state)))

    own = seconds(leading, 3)
    dense: list[torch.Tensor] = []

    def whole():
        J = torch.autograd.functional.jacobian(loop, state)
        assert isinstance(J, torch.Tensor)
        dense.append(J[0, :, 0])

    jacobian = seconds(whole)
    against = jacobian + seconds(lambda: torch.linalg.eigvals(dense[0]))
    # Causal: the eigenvalues are those of the positions' own blocks, which a solver for the whole
    # would blur.
    blocks = dense[0].reshape(POSITIONS, WIDTH, POSITIONS, WIDTH).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    goal = float(torch.linalg.eigvals(blocks.double()).abs().max())
    assert result[0] == pytest.approx(goal, rel=1e-3)
    say(
        f"dense Jacobian and its eigenvalues, {against:.1f} s / leading eigenvalue, {own:.2f} s",
        against / own,
        "goal at least 100" if injection == "none" else "no goal",
    )
    say(
        f"dense Jacobian alone, {jacobian:.1f} s / leading eigenvalue",
        jacobian / own,
        "no goal: both are backward passes",
    )
    benchmark.pedantic(leading, rounds=1)
