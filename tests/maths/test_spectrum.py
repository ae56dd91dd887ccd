"""Jacobians and their spectra: of known matrices and of a loop, and cases without eigenvalues."""

import importlib
import math

import numpy as np
import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope import maths
from loopscope.common.errors import LoopscopeError
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.maths.dense_eigenvalues import DENSE
from loopscope.nn import LoopedModule

MODULE = importlib.import_module("loopscope.maths.spectrum")  # the package has a function of this name
DTYPES = [torch.float32, torch.float64]


def linear(A: torch.Tensor):
    return lambda x: x @ A.T


def rotation(radius: float, angle: float) -> torch.Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return radius * torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def matrix(kind: str, radius: float, n: int, seed: int = 0) -> torch.Tensor:
    """A matrix of given spectral radius."""
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(n, n, generator=generator, dtype=torch.float64)
    if kind == "normal, real":
        Q = torch.linalg.qr(A).Q
        return Q @ torch.diag(torch.linspace(-0.9, 1, n, dtype=torch.float64) * radius) @ Q.T
    if kind == "normal, complex":
        B = torch.block_diag(*[rotation(radius * 0.8**i, 1 + i) for i in range(n // 2)])
        Q = torch.linalg.qr(A).Q
        return Q @ B @ Q.T
    if kind == "non-normal, real":
        return torch.diag(torch.linspace(radius, radius / n, n, dtype=torch.float64)) + 20 * A.triu(1)
    B = torch.block_diag(*[rotation(radius * 0.8**i, 1 + i) for i in range(n // 2)]) + 20 * torch.ones(
        n, n
    ).triu(2)
    return B


KINDS = ["normal, real", "normal, complex", "non-normal, real", "non-normal, complex"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 6, 10])
@pytest.mark.parametrize("radius", [0.05, 0.5, 0.97, 1.0, 3.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_spectral_radius_of_a_linear_map(kind, radius, n, dtype):
    A = matrix(kind, radius, n).to(dtype)
    result = float(maths.spectral_radius(linear(A), torch.randn(1, n).to(dtype)))
    own = max(abs(np.linalg.eigvals(A.double().numpy()))) if kind == "non-normal, complex" else radius
    assert result == pytest.approx(own, rel=1e-3)
    assert own == pytest.approx(radius, rel=1e-3) or dtype == torch.float32


@pytest.mark.parametrize("angle", [math.pi / 2, math.pi / 3, 1.0, 3.0])
def test_a_rotation_has_its_radius_and_its_angle(angle):
    """Where power iteration with a Rayleigh quotient gives 0.9 cos(angle)."""
    first, second = maths.eigenvalues(
        linear(rotation(0.9, angle)), torch.zeros(1, 2, dtype=torch.float64), count=2
    )[0].tolist()
    assert abs(first) == pytest.approx(0.9)
    assert math.atan2(first.imag, first.real) == pytest.approx(angle)
    assert second == first.conjugate()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_map_without_its_matrix(dtype):
    n = DENSE + 100
    blocks = [rotation(0.95, 0.7), rotation(0.9, 2.0), *[rotation(0.5 * i / n, i) for i in range(n // 2 - 2)]]
    Q = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    A = (Q @ torch.block_diag(*blocks) @ Q.T).to(dtype)
    result = maths.spectrum(linear(A), torch.zeros(1, n, dtype=dtype), 4, errors=True)
    assert "ARPACK" in result.sentences[0]
    assert result.values.abs()[0].tolist() == pytest.approx([0.95, 0.95, 0.9, 0.9], rel=1e-4)
    assert float(result.values[0, 0].angle()) == pytest.approx(0.7, rel=1e-4)
    assert float(result.error[0, 0]) < 1e-4


def test_a_spectrum_that_arpack_cannot_tell_apart_is_found_from_the_whole_matrix_or_not_at_all(monkeypatch):
    n = DENSE + 8
    Q = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    state = torch.zeros(1, n, dtype=torch.float64)
    assert float(maths.spectral_radius(linear(0.9 * Q), state)) == pytest.approx(0.9)
    monkeypatch.setattr(MODULE, "WHOLE", 0)
    result = maths.spectrum(linear(0.9 * Q), state, 2)
    assert result.values.isnan().all()
    assert "lie too close together" in result.sentences[0]


@pytest.mark.parametrize("n", [1, 5, DENSE + 50])
@pytest.mark.parametrize(
    "map, radius",
    [
        (lambda x: 0 * x, 0),
        (torch.ones_like, 0),
        (lambda x: x, 1),
        (lambda x: x.roll(1, -1), 1),
        (lambda x: -x, 1),
    ],
)
def test_maps_that_leave_nothing_or_everything(map, radius, n):
    assert float(maths.spectral_radius(map, torch.ones(1, n))) == pytest.approx(radius, abs=1e-5)
    assert float(maths.singular_value(map, torch.ones(1, n))) == pytest.approx(radius, abs=1e-5)


@pytest.mark.parametrize("n", [10, DENSE + 100])
@pytest.mark.parametrize("value", [0.0, 0.9])
def test_a_triangular_defective_matrix_keeps_its_only_eigenvalue(n, value):
    """A general solver would find a ring around it: with n = 10 and value 0 of radius 0.02, with
    600 of radius 0.9."""
    A = value * torch.eye(n, dtype=torch.float64) + torch.diag(torch.ones(n - 1, dtype=torch.float64), -1)
    assert float(maths.spectral_radius(linear(A), torch.zeros(1, n, dtype=torch.float64))) == pytest.approx(
        value, abs=1e-9
    )


def test_the_error_says_how_far_a_defective_eigenvalue_can_be_off():
    P = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    A = (
        P
        @ (0.9 * torch.eye(6, dtype=torch.float64) + torch.diag(torch.ones(5, dtype=torch.float64), 1))
        @ torch.linalg.inv(P)
    )
    result = maths.spectrum(linear(A), torch.zeros(1, 6, dtype=torch.float64), 1)
    off = abs(float(result.radius[0]) - 0.9)
    assert 1e-5 < off < 10 * float(result.error[0, 0])


def test_every_row_has_its_own_jacobian_and_rows_may_be_handed_over_alone():
    radii = torch.tensor([0.3, 0.6, 1.2])
    state = radii[:, None] * torch.ones(3, 4)

    def map(x):  # the Jacobian at x is x_0 times the identity, to first order in nothing else
        return x * state[: len(x)] if len(x) == 3 else x * x.detach()

    assert maths.spectral_radius(map, state).tolist() == pytest.approx(radii.tolist())
    assert maths.spectral_radius(map, state, row_by_row=True).tolist() == pytest.approx(radii.tolist())
    assert maths.singular_value(map, state).tolist() == pytest.approx(radii.tolist())


@pytest.mark.parametrize(
    "state, shape",
    [(torch.tensor(0.4), (1,)), (torch.tensor([0.4, 0.2]), (2,)), (torch.zeros(3, 2, 2), (3, 4))],
)
def test_a_state_without_a_batch_is_one_row(state, shape):
    assert maths.eigenvalues(lambda x: x / 2, state).shape == shape
    assert maths.spectral_radius(lambda x: x / 2, state).shape == shape[:-1]


class Once(torch.autograd.Function):
    """sin, with a first derivative only, in reverse."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos()


@pytest.mark.parametrize(
    "map",
    [
        lambda x: torch.tanh(x) * x.flip(-1),
        lambda x: torch.nn.functional.scaled_dot_product_attention(*[x[:, None]] * 3)[
            :, 0
        ],  # by heads: a fused kernel
        lambda x: x.relu() + x.sum(-1, keepdim=True),
        lambda x: x.cumsum(-1) if float(x.detach().sum()) else x,  # looks at its numbers
    ],
)
def test_products_are_those_of_the_jacobian_of_autograd(map):
    generator = torch.Generator().manual_seed(0)
    x, v, u = (torch.randn(2, 3, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    J = torch.autograd.functional.jacobian(map, x)
    assert isinstance(J, torch.Tensor)
    assert torch.allclose(maths.jvp(map, x, v), torch.einsum("bijckl,ckl->bij", J, v))
    assert torch.allclose(maths.vjp(map, x, u), torch.einsum("bijckl,bij->ckl", J, u))
    own = torch.stack([J[b, :, :, b].reshape(12, 12) for b in range(2)])
    assert torch.allclose(maths.jacobian(map, x), own)


def test_a_map_with_a_first_derivative_only_has_a_spectrum():
    x = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    assert maths.eigenvalues(Once.apply, x)[0].real.tolist() == pytest.approx([1, math.cos(1)])


class Forward(Once):
    """sin, which reverse mode can't differentiate twice, but forward mode can once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_forward(x)
        return Once.forward(ctx, x)

    @staticmethod
    def jvp(ctx, tangent):
        return tangent * ctx.saved_tensors[0].cos()


class Attending(LoopedModule):
    def __init__(self, wave):
        super().__init__(3, 5)
        self.wave = wave
        self.setup()

    def encode(self, tokens):
        return torch.sin(tokens.double()[..., None] + torch.arange(4))

    def initial(self, context):
        return context.clone()

    def step(self, state, context, t):
        heads = (0.5 * state + context)[:, None]
        attended = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
        return self.wave(attended[:, 0])

    def decode(self, state, context):
        return state


@pytest.mark.parametrize("wave", [torch.sin, Forward.apply])
def test_a_recorded_loop_has_products_whatever_kernel_its_attention_ran_on(wave):
    """By h, and by the inputs at a fixed h: the fused kernels have no second
    derivative, and no forward one."""
    loop = IterationMap(ls.record(Attending(wave).eval(), torch.tensor([[1, 4, 2]])))
    x, e = loop.starts, loop.inputs()
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for map, at in ((loop, x), (lambda e: loop.with_inputs(x, e), e)):
        exact = maths.jacobian(map, at)[0] @ v[0]
        difference = (map(at + 1e-6 * v) - map(at - 1e-6 * v))[0] / 2e-6
        assert torch.allclose(exact, difference, atol=1e-8)
        assert torch.allclose(maths.jvp(map, at, v)[0], exact, atol=1e-12)


def test_a_product_that_no_derivative_gives_is_refused_rather_than_zero():
    x = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    with pytest.raises(LoopscopeError, match="differentiated twice, or in forward mode"):
        maths.jvp(Once.apply, x, x)
    assert maths.vjp(Once.apply, x, x)[0].tolist() == pytest.approx([0, math.cos(1)])


def test_differences_in_a_map_agree_with_the_product():
    x = torch.randn(1, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = torch.randn(1, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def map(x):
        return torch.softmax(x * x.roll(3, -1), -1)

    numeric = (map(x + 1e-6 * v) - map(x - 1e-6 * v)) / 2e-6
    assert torch.allclose(maths.jvp(map, x, v), numeric, atol=1e-8)


@pytest.mark.parametrize("map", [lambda x: x / 0, lambda x: (x - 2).sqrt()])
@pytest.mark.parametrize("n", [3, DENSE + 10])
def test_where_there_is_no_jacobian_there_is_no_number(map, n):
    result = maths.spectrum(map, torch.ones(1, n), 2)
    assert result.values.isnan().all()
    assert "NaN or infinity" in result.sentences[0]
    assert maths.singular_value(map, torch.ones(1, n)).isnan().all()


@pytest.mark.parametrize(
    "call, text",
    [
        (
            lambda: maths.spectral_radius(lambda x: x, torch.zeros(2, 3).long()),
            r"floating-point tensor .* but is torch.int64 \(2, 3\)",
        ),
        (
            lambda: maths.spectral_radius(lambda x: x[:, :1], torch.zeros(2, 3)),
            r"own shape \(2, 3\), but gave \(2, 1\)",
        ),
        (
            lambda: maths.eigenvalues(lambda x: x, torch.zeros(2, 3), count=0),
            r"count must be a whole number, 1 or more, but is 0",
        ),
        (
            lambda: maths.jvp(lambda x: x, torch.zeros(2, 3), torch.zeros(3)),
            r"the state's shape \(2, 3\), but has \(3,\)",
        ),
    ],
)
def test_bad_input_gets_a_sentence(call, text):
    with pytest.raises(ls.LoopscopeError, match=text):
        call()


@pytest.fixture(scope="module")
def loop():
    """A transformer loop with 512 numbers in its state: 16 positions of width 32, not causal in
    either direction of time."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True).double().eval()
    return lambda x: 0.7 * layer(x.reshape(-1, 16, 32)).reshape(x.shape)


def test_eigenvalues_are_those_of_the_dense_jacobian_of_a_512_dimensional_transformer_loop(loop, monkeypatch):
    state = torch.randn(1, 512, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in range(3):
        state = loop(state).detach()
    J = torch.autograd.functional.jacobian(loop, state)
    assert isinstance(J, torch.Tensor)
    own = np.linalg.eigvals(J[0, :, 0].numpy())
    goal = np.sort(np.abs(own))[::-1][:4]
    assert maths.eigenvalues(loop, state, count=4)[0].abs().tolist() == pytest.approx(goal.tolist(), rel=1e-3)
    assert float(maths.singular_value(loop, state)) == pytest.approx(
        np.linalg.norm(J[0, :, 0].numpy(), 2), rel=1e-3
    )
    monkeypatch.setattr(MODULE, "DENSE", 0)
    result = maths.spectrum(loop, state, 4)
    assert "ARPACK" in result.sentences[0]
    assert result.values[0].abs().tolist() == pytest.approx(goal.tolist(), rel=1e-3)
    assert float(maths.singular_value(loop, state)) == pytest.approx(
        np.linalg.norm(J[0, :, 0].numpy(), 2), rel=1e-3
    )


def test_a_causal_loop_is_resolved_position_by_position():
    """Its Jacobian is a block triangle, whose eigenvalues are those of the positions' own
    blocks."""
    torch.manual_seed(0)
    model = ls.models.build(
        "universal", vocabulary=3, width=32, heads=2, injection="add", step_code="none"
    ).eval()
    run = ls.record(model, torch.randint(0, 3, (1, 20)), iterations=8)
    one = IterationMap(run)
    x = one.at(8, run)
    result = maths.spectrum(one, x, 4)
    assert "blocks of at most 32" in result.sentences[0]
    J = maths.jacobian(one, x)[0]
    assert not J.reshape(20, 32, 20, 32)[3, :, 4:].any()
    own = torch.cat([torch.linalg.eigvals(J[32 * p : 32 * p + 32, 32 * p : 32 * p + 32]) for p in range(20)])
    assert result.values[0].abs().tolist() == pytest.approx(
        own.abs().sort(descending=True).values[:4].tolist(), rel=1e-6
    )
