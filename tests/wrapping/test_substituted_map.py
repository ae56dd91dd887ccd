"""The map of a module wrapped by its body is that of its adapter: where states go, spectral radius
and sensitivity to the input are equal up to 1e-6."""

import pytest
import torch

import loopscope as ls
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.maths.jacobian import jacobian

from ..toys.body_wraps import albert, hrm_text, huginn

N, FAR = 3, 100


def recorded(make):
    """A run of the adapter and one of the body."""
    torch.manual_seed(0)
    *models, options = make(N)
    tokens = torch.randint(3, 20, (2, 3))
    return [ls.record(model, tokens, **options) for model in models]


@pytest.fixture(scope="module", params=[albert, huginn, hrm_text])
def runs(request):
    return recorded(request.param)


def test_where_its_states_go_and_how_fast_they_contract_there(runs):
    theirs, ours = maps = [IterationMap(run) for run in runs]
    start = theirs.at(1, runs[0])
    paths = [list(one.trajectory(start, FAR, 1)) for one in maps]
    for one, other in zip(*paths, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-6)
    fixed = paths[0][-1]
    radii = [torch.linalg.eigvals(jacobian(one, fixed)).abs().amax(-1) for one in (theirs, ours)]
    assert float(radii[0].min()) > 1e-3
    assert torch.allclose(*radii, rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [albert, huginn, pytest.param(hrm_text, marks=pytest.mark.slow)])
def test_measured_fixed_points_and_spectral_radii(make):
    theirs, ours = (ls.analyses.measure("stability", run) for run in recorded(make))
    assert ours.verdict is theirs.verdict
    assert torch.allclose(ours.radius, theirs.radius, rtol=0, atol=1e-6, equal_nan=True)


def test_a_change_of_the_input_reaches_the_state_through_every_iteration_as_in_the_adapter(runs):
    gradients = []
    for run in runs:
        loop = IterationMap(run)
        inputs = loop.inputs()
        if inputs is None:
            continue
        inputs = inputs.clone().requires_grad_()
        image = loop.with_inputs(loop.at(1, runs[0]), inputs)
        (gradient,) = torch.autograd.grad(image.square().sum(), inputs, allow_unused=True)
        gradients.append(torch.tensor(0.0) if gradient is None else gradient.norm())
    assert len(gradients) in (0, 2)
    if gradients:
        assert torch.allclose(*gradients, rtol=1e-6)
