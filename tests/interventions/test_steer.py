"""Steering: what is added has the norm that was asked for, where it was asked for, and nothing
else changes."""

import pytest
import torch

import loopscope as ls

N = 4
SITES = ["core.0.hook_resid_post"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ls.models.build("universal", vocabulary=5, width=8, heads=2, iterations=N).eval()


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 5, (3, 6), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def clean(model, tokens):
    return ls.record(model, tokens, N, sites=SITES)


def bits(value: torch.Tensor) -> torch.Tensor:
    """The bits of 32-bit floats: 0.0 and -0.0 differ."""
    return value.view(torch.int32)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("shape", [(8,), (6, 8), (3, 1, 8)])
def test_each_added_vector_has_the_norm(scale, shape):
    direction = scale * torch.randn(shape, generator=torch.Generator().manual_seed(2))
    added = ls.steer(direction, norm=3.5).value
    assert torch.allclose(added.norm(dim=-1), torch.tensor(3.5, dtype=torch.double), rtol=1e-14)
    wide = direction.double()
    assert torch.allclose(added / 3.5 * wide.norm(dim=-1, keepdim=True), wide, rtol=1e-12, atol=0)


def test_it_is_added_in_the_window_of_iterations_and_positions_alone(model, tokens, clean):
    direction = torch.arange(8.0) - 3
    edit = ls.steer(direction, norm=2, site=SITES[0], iteration=slice(1, 3), position=slice(2, 4))
    edited = ls.record(model, tokens, N, sites=SITES, edits=[edit])
    assert torch.equal(edited.states[:2].tensor, clean.states[:2].tensor)
    one, other = edited[SITES[0]][1], clean[SITES[0]][1]
    unit = (2 * direction.double() / direction.double().norm()).float()
    assert torch.equal(one[:, 2:4], other[:, 2:4] + unit)
    for outside in (slice(0, 2), slice(4, 6)):
        assert torch.equal(one[:, outside], other[:, outside])
    # Over a window the same vector goes in at each iteration: two edits of one each are the same.
    twice = [ls.steer(direction, norm=2, site=SITES[0], iteration=t, position=slice(2, 4)) for t in (1, 2)]
    assert torch.equal(ls.record(model, tokens, N, edits=twice).states.tensor, edited.states.tensor)
    late = ls.record(model, tokens, N, edits=twice[:1])
    assert not torch.equal(late.states[3], edited.states[3])


def test_a_coefficient_multiplies_the_direction(model, tokens, clean):
    direction = torch.arange(8.0)
    edited = ls.record(model, tokens, N, edits=[ls.steer(direction, coefficient=-0.5, iteration=2)])
    assert torch.equal(edited.states[2], clean.states[2] - 0.5 * direction)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_coefficient_of_zero_changes_no_bit(model, tokens, sign):
    """Also not the sign of a zero, which adding 0.0 would lose."""
    zeros = ls.patch("state", iteration=1, value=-0.0, position=slice(0, 3))
    direction = sign * torch.tensor([1.0, -2.0, 0.0, 4.0, 5.0, -0.0, 7.0, 8.0])
    before = ls.record(model, tokens, N, edits=[zeros])
    after = ls.record(model, tokens, N, edits=[zeros, ls.steer(direction, coefficient=0)])
    assert torch.equal(bits(before.states.tensor), bits(after.states.tensor))
    assert torch.equal(bits(before.output), bits(after.output))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"direction": torch.ones(8)}, "needs a norm or a coefficient, and not two of them, but got neither"),
        ({"direction": torch.ones(8), "norm": 1, "coefficient": 1}, "but got both. Pass norm=4"),
        ({"direction": torch.ones(8), "norm": 0}, "norm must be a finite number above 0"),
        ({"direction": torch.zeros(2, 8), "norm": 1}, "isn't zero to give it a norm, but got a vector of ze"),
        ({"direction": 2.0, "norm": 1}, r"\(width,\) or \(..., width\), but got of shape \(\)"),
        ({"direction": torch.ones(3, 1), "norm": 1}, r"but got of shape \(3, 1\)"),
        ({"direction": torch.tensor([1.0, torch.nan]), "coefficient": 1}, "finite numbers, but it holds NaN"),
    ],
)
def test_what_is_no_steering_is_refused(arguments, text):
    with pytest.raises(ls.LoopscopeError, match=text):
        ls.steer(**arguments)


def test_a_token_is_for_a_generation(model, tokens):
    with pytest.raises(ls.LoopscopeError, match="has no axis 'token'"):
        ls.record(model, tokens, N, edits=[ls.steer(torch.ones(8), norm=1, token=2)])
