"""Parcae: its equations, and a linear part that contracts whatever its weights."""

import json
import math

import pytest
import torch

import loopscope as ls
from loopscope.nn.lti import LTI
from loopscope.training import AdamW, Last, PoissonLogNormal, Recipe, train

from ..toys.reference_equations import pre, rms, shaken, stream

SHAPE = {"vocabulary": 3, "width": 16, "heads": 2, "layers": (1, 1, 1), "iterations": 4}


def tokens(batch=2, length=5, seed=0):
    return torch.randint(0, 3, (batch, length), generator=torch.Generator().manual_seed(seed))


def linear_part(lti: LTI) -> torch.Tensor:
    """d(next state) / d(state) of the injection alone, as a matrix."""
    width = len(lti.log_a)
    e = torch.zeros(1, 1, width, dtype=lti.b.dtype)
    return torch.func.jacrev(lambda h: lti(h.view(1, 1, -1), e).flatten())(torch.zeros_like(e).flatten())


@pytest.mark.parametrize("norm", ["pre", "stream"])
def test_the_forward_pass_is_the_docstrings_equations(norm):
    model = shaken(ls.models.build("parcae", **SHAPE, norm=norm))
    torch.manual_seed(4)
    logits = model(tokens())
    torch.manual_seed(4)
    h = model.initial(model.encode(tokens()))

    e = rms(pre(model.prelude[0], model.embed.table.weight[tokens()]), model.ln_prelude)
    delta = torch.exp(model.injection.log_delta)
    a = torch.diag(torch.exp(-delta * torch.exp(model.injection.log_a)))
    b = torch.diag(delta) @ model.injection.b
    for _ in range(4):
        u = h @ a.T + e @ b.T
        h = {"pre": pre, "stream": stream}[norm](model.core[0], u)
    h = pre(model.coda[0], h @ model.c.weight.T)
    expected = rms(h, model.ln_final) @ model.unembed.weight.T
    assert torch.allclose(logits, expected, atol=1e-12)


def test_the_linear_parts_spectral_radius_is_below_one_for_any_weights():
    """Also for those at which exp would round to one, overflow, or vanish."""
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        for scale in (0.0, 1.0, 10.0, 1e3):
            lti = LTI(16).to(dtype)
            with torch.no_grad():
                for weight in lti.parameters():
                    weight += scale * torch.randn(weight.shape, generator=generator)
            A = linear_part(lti)
            radius = torch.linalg.eigvals(A).abs().max().item()
            assert radius < 1, scale
            assert radius == lti.decay.max().item() and torch.equal(A, A.diag().diag())


def test_without_an_input_the_linear_part_forgets_and_with_one_it_comes_to_rest_at_the_known_point():
    torch.manual_seed(0)
    lti = LTI(6).double()
    with torch.no_grad():
        for weight in lti.parameters():
            weight += 0.3 * torch.randn_like(weight)
        h, quiet, e = (
            torch.randn(1, 1, 6).double(),
            torch.randn(1, 1, 6).double(),
            torch.randn(1, 1, 6).double(),
        )
        for _ in range(400):
            h, quiet = lti(h, e), lti(quiet, torch.zeros_like(e))
        assert quiet.abs().max() < 1e-12
        B = lti.log_delta.exp()[:, None] * lti.b
        rest = (e @ B.T) / (1 - lti.decay)
        assert torch.allclose(h, rest, atol=1e-12)


def test_the_system_starts_with_one_decay_and_the_input_as_it_is():
    lti = LTI(6, delta=0.5)
    assert torch.allclose(lti.decay, torch.full((6,), math.exp(-0.5)))
    e = torch.randn(1, 2, 6)
    assert torch.allclose(lti(torch.zeros_like(e), e), 0.5 * e)


def test_the_core_is_counted_once_whatever_the_iterations():
    d, v, hidden = 16, 3, 64
    block = 4 * d * d + 3 * d * hidden + 2 * d
    expected = v * d + 3 * block + d + (2 * d + d * d) + d * d + d + v * d
    for iterations in (1, 30):
        model = ls.models.build("parcae", **SHAPE | {"iterations": iterations})
        assert sum(p.numel() for p in model.parameters()) == expected


def test_it_learns_and_its_linear_part_still_contracts(tmp_path):
    recipe = Recipe(
        architecture="parcae",
        config=SHAPE | {"width": 32},
        task="prefix-parity",
        options={"length": 5},
        steps=120,
        depth=PoissonLogNormal(mean=5),
        gradient=Last(4),
        batch=32,
        optimiser=AdamW(lr=5e-3, warmup=20, decay=40),
    )
    model = train(recipe, tmp_path, progress=False, log_every=1)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    assert first > 0.6 and last < 0.5 * first, (first, last)
    assert model.injection.decay.max() < 1
    untrained = dict(ls.models.build("parcae", **recipe.config).named_parameters())
    assert all(not torch.equal(weight, untrained[name]) for name, weight in model.named_parameters())
    states = ls.record(model, model.task.batch(4, seed=0).tokens, iterations=40, seed=0).states.tensor
    assert states.isfinite().all()
