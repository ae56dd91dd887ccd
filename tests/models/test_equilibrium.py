"""Deep equilibrium: a map, its solvers, and a gradient that knows nothing of the way to the fixed
point."""

from collections import deque

import pytest
import torch

import loopscope as ls
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError
from loopscope.training import Full, Implicit
from loopscope.training.truncated_backprop import without_gradient

from ..toys.reference_equations import post, rms, shaken, stream

combined = discovery.module("models", "equilibrium").combined
SOLVERS = ("plain", "damped", "anderson")


def built(seed=0, **config):
    shape = {"vocabulary": 3, "width": 8, "heads": 2, "tolerance": 1e-10, "iterations": 500}
    return ls.models.build("equilibrium", seed=seed, **(shape | config)).double().eval()


def tokens(batch=2, length=5, seed=0):
    return torch.randint(0, 3, (batch, length), generator=torch.Generator().manual_seed(seed))


def ended(model, batch):
    """(state, context) when the residual is below the tolerance."""
    context = model.encode(batch)
    with torch.no_grad():
        return deque(Full().unrolled(model, model.initial(context), context, 2000), maxlen=1).pop()[
            1
        ], context


def gradients(model, rule, batch, iterations):
    """Of a loss that reads every logit, by parameter; the loop is trained, so it is not left before
    `iterations`."""
    model.zero_grad()
    context = model.encode(batch)
    state = deque(rule.unrolled(model, model.initial(context), context, iterations), maxlen=1).pop()[1]
    logits = model.decode(state, context)
    (logits * torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


# The map
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["post", "stream"])
def test_the_forward_pass_is_the_docstrings_equations(norm):
    f = {"post": post, "stream": stream}[norm]
    model = shaken(built(norm=norm, layers=2, injection="concat", gain=True))
    e = model.embed.table.weight[tokens()]
    h, gap = torch.zeros_like(e), torch.ones(e.shape[:2], dtype=e.dtype)
    run = ls.record(model, tokens(), iterations=4)
    for k in range(5):
        assert torch.allclose(run.states[k], h, atol=1e-12)
        assert torch.allclose(run["state.gap"][k], gap, atol=1e-9)
        before, h = h, torch.cat([h, e], -1) @ model.injection.mix.weight.T
        for block in model.core:
            h = f(block, h)
        gap = (h - before).norm(dim=-1) / h.norm(dim=-1)
    logits = rms(run.states[4], model.ln_final) @ model.unembed.weight.T + model.unembed.bias
    assert torch.allclose(run.logits[4], logits, atol=1e-12)


def test_one_block_is_counted_once_and_no_solver_adds_a_weight():
    d, v = 8, 3
    expected = v * d + (12 * d * d + 5 * d) + d + (d * v + v)
    for solver in SOLVERS:
        for iterations in (1, 300):
            model = built(solver=solver, iterations=iterations)
            assert sum(p.numel() for p in model.parameters()) == expected


# Solvers
# ------------------------------------------------------------------------------------------


def test_every_solver_ends_at_the_same_fixed_point_and_the_residual_is_what_it_says():
    ends = {}
    for solver in SOLVERS:
        model = built(solver=solver)
        state, context = ended(model, tokens())
        with torch.no_grad():
            f = model.f(state.h, context)
        assert ((f - state.h).norm(dim=-1) / f.norm(dim=-1)).max() < 1e-9
        ends[solver] = state.h
    assert torch.allclose(ends["plain"], ends["damped"], atol=1e-7)
    assert torch.allclose(ends["plain"], ends["anderson"], atol=1e-7)


def test_no_number_of_iterations_belongs_to_the_model_evaluation_leaves_when_the_residual_is_small():
    for solver in SOLVERS:
        model = built(solver=solver, tolerance=1e-6)
        few, many = (ls.record(model, tokens(), iterations=n) for n in (200, 2000))
        assert few.iterations == many.iterations < 200
        gap = few["state.gap"].tensor.amax((1, 2))
        assert gap[-1] < 1e-6 and (gap[:-1] >= 1e-6).all()
        rough = ls.record(built(solver=solver, tolerance=1e-2), tokens(), iterations=200)
        assert rough.iterations < few.iterations


def test_damping_takes_a_part_of_the_step():
    model = built(solver="damped", damping=0.25)
    run = ls.record(model, tokens(), iterations=3)
    context = model.encode(tokens())
    for k in range(3):
        f = model.f(run.states[k], context)
        assert torch.allclose(run.states[k + 1], run.states[k] + 0.25 * (f - run.states[k]))


def test_anderson_solves_a_linear_map_of_n_numbers_in_n_plus_one_evaluations_even_one_that_plain_iteration_flees():  # noqa: E501
    """For A with eigenvalues beyond the unit circle too; the fixed point is known: (I - A)^-1 b."""
    generator = torch.Generator().manual_seed(0)
    n = 4
    A = torch.randn(n, n, generator=generator, dtype=torch.float64)
    b = torch.randn(1, 1, n, generator=generator, dtype=torch.float64)
    assert torch.linalg.eigvals(A).abs().max() > 1
    iterates, images = [torch.zeros(1, 1, n, dtype=torch.float64)], []
    for _ in range(n + 1):
        images.append(iterates[-1] @ A.T + b)
        iterates.append(combined(iterates, images))
    exact = torch.linalg.solve(torch.eye(n, dtype=torch.float64) - A, b[0, 0])
    assert torch.allclose(iterates[-1][0, 0], exact, atol=1e-4)


def test_anderson_records_its_evaluations_on_an_axis_of_their_own_and_needs_fewer_iterations():
    model = built(solver="anderson", memory=3, tolerance=1e-6)
    run = ls.record(model, tokens(), iterations=50, sites=["core_in"])
    assert run["core_in"].axes[:2] == ("iteration", "inner")
    assert run["core_in"].tensor.shape[:2] == (run.iterations, 3)
    assert run.iterations < ls.record(built(tolerance=1e-6), tokens(), iterations=500).iterations


def test_anderson_with_a_memory_of_one_is_plain_iteration_with_the_same_residuals():
    one, plain = (
        ls.record(built(**chosen), tokens(), iterations=6)
        for chosen in ({"solver": "anderson", "memory": 1}, {"solver": "plain"})
    )
    assert torch.allclose(one.states.tensor, plain.states.tensor, atol=1e-12)
    assert torch.allclose(one["state.gap"].tensor, plain["state.gap"].tensor, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_iterate_reads_what_comes_later(solver):
    model = built(solver=solver)
    first = tokens(1, 6)
    second = first.clone()
    second[:, 4:] = (second[:, 4:] + 1) % 3
    a, b = (ls.record(model, x, iterations=7).states.tensor for x in (first, second))
    assert torch.allclose(a[:, :, :4], b[:, :, :4], atol=1e-12) and not torch.allclose(
        a[:, :, 4:], b[:, :, 4:]
    )


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"damping": 0.0}, "damping of equilibrium must be a finite number above 0, but is 0.0"),
        ({"memory": 0}, "memory of equilibrium must be a whole number, 1 or more, but is 0"),
        ({"damping": 1.5}, r"a solver needs damping in \(0, 1\]"),
        ({"tolerance": 1.5}, r"a solver needs .* a tolerance in \(0, 1\)"),
    ],
)
def test_a_solver_that_could_not_work_is_refused(wrong, sentence):
    with pytest.raises(LoopscopeError, match=sentence):
        built(**wrong)


# The gradient
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_implicit_gradient_is_that_of_a_long_unrolled_loop(solver):
    batch = tokens(3, 6)
    unrolled = gradients(built().train(), Full(), batch, 300)
    implicit = gradients(built(solver=solver).train(), Implicit(1e-8, 300), batch, 300)
    assert (implicit - unrolled).norm() < 1e-6 * unrolled.norm()


def test_the_implicit_gradient_does_not_depend_on_the_way_to_the_fixed_point():
    """Nor on how long it was: from the state where it has ended already one iteration is enough."""
    model, batch = built().train(), tokens(3, 6)
    far = gradients(model, Implicit(1e-8, 300), batch, 400)
    model.zero_grad()
    context = model.encode(batch)
    start = without_gradient(model, model.initial(context), context, 500)
    ((_, state),) = Implicit(1e-8, 300).unrolled(model, start, context, 1)
    logits = model.decode(state, context)
    (logits * torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)).sum().backward()
    near = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert (near - far).norm() < 1e-7 * far.norm()


def test_one_step_of_gradient_alone_would_not_do():
    """The comparison above can fail: without the solve, the gradient is another."""
    batch = tokens(3, 6)
    unrolled = gradients(built().train(), Full(), batch, 300)
    phantom = gradients(built().train(), Implicit(1.0, 1), batch, 300)
    assert (phantom - unrolled).norm() > 1e-2 * unrolled.norm()


def test_the_regulariser_estimates_the_jacobians_mean_square_row():
    model = shaken(built(gain=True))
    context = model.encode(tokens(1, 3))
    state = model.initial(context)
    state = state._replace(h=torch.randn(state.h.shape, generator=torch.Generator().manual_seed(1)).double())
    n = state.h.numel()
    J = torch.func.jacrev(lambda h: model.f(h, context))(state.h).reshape(n, n)
    torch.manual_seed(0)
    draws = torch.stack([model.penalty(state, context).detach() for _ in range(400)])
    error = draws.std() / 400**0.5
    assert abs(draws.mean() - J.square().sum() / n) < 4 * error < 0.1 * draws.mean()


def test_the_regularisers_gradient_reaches_the_weights_but_not_the_way_to_the_state():
    model, result = built().train(), []
    context = model.encode(tokens())
    state = model.step(model.initial(context), context, 0)
    for way in (state, state._replace(h=state.h.detach())):
        model.zero_grad()
        torch.manual_seed(0)
        model.penalty(way, context).backward(retain_graph=True)
        assert model.unembed.weight.grad is None
        result.append(model.embed.table.weight.grad.clone())
        assert model.core[0].mlp.up.weight.grad.abs().sum() > 0
    assert torch.equal(*result)


# The trained entry
# -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def entry():
    return ls.models.load("equilibrium-prefix-parity").double()


def test_on_the_entry_too_the_implicit_gradient_is_that_of_a_long_unrolled_loop(entry):
    batch = entry.task.batch(8, seed=0).tokens
    unrolled = gradients(entry.train(), Full(), batch, 300)
    implicit = gradients(entry.train(), Implicit(1e-6, 200), batch, 300)
    entry.eval()
    assert (implicit - unrolled).norm() < 1e-3 * unrolled.norm()


def test_the_entry_leaves_its_loop_at_rest_after_a_number_of_iterations_that_its_examples_decide(entry):
    tolerance = entry.config.tolerance
    short, long = (
        ls.record(entry, entry.task.batch(8, seed=0, length=length).tokens, iterations=1000)
        for length in (5, 10)
    )
    for run in (short, long):
        assert run["state.gap"][-1].max() < tolerance <= run["state.gap"][-2].max()
    assert short.iterations < long.iterations < 100
