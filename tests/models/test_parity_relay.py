"""A finding on a trained entry, told in notebook 05: how universal-prefix-parity brings the parity
from one end to the other."""

import pytest
import torch

import loopscope as ls


@pytest.fixture(scope="module")
def model():
    return ls.models.load("universal-prefix-parity")


def held(model, position, length, seeds):
    """Strings, the fraction of their later answers that flip when a position is held at another
    string's final state, and whether that string has another parity there."""
    batch, other = (model.task.batch(200, seed=seed, length=length) for seed in seeds)
    n = 2 * length
    run, donor = (ls.record(model, one.tokens, n) for one in (batch, other))
    edit = ls.patch("state", iteration=slice(n // 2, None), value=donor.states[-1], position=position)
    edited = ls.record(model, batch.tokens, n, edits=[edit])
    flips = (edited.output.argmax(-1) != run.output.argmax(-1))[:, position + 1 :].float().mean(1)
    return batch.tokens, flips, batch.targets[:, position] != other.targets[:, position]


@pytest.mark.parametrize(("position", "length"), [(6, 16), (9, 20)])
def test_the_ones_relay_the_parity_and_zeros_are_bystanders(model, position, length):
    tokens, flips, differs = held(model, position, length, (20, 21))
    one, follows = tokens[:, position] == 1, tokens[:, position + 1] == 1
    assert flips[~differs].mean() < 0.05  # other bits with the same parity change nothing
    assert flips[differs & one].mean() > 0.85
    assert flips[differs & ~one & ~follows].mean() < 0.05
    assert 0.2 < flips[differs & ~one & follows].mean() < 0.8  # of these nothing is promised


def test_a_zero_looks_past_zeros_to_the_latest_one(model):
    site, length = "core.0.attn.hook_pattern", 16
    tokens = model.task.batch(100, seed=22, length=length).tokens
    pattern = ls.record(model, tokens, 2 * length, sites=[site])[site][-1]
    ones, place = tokens == 1, torch.arange(length + 1)
    to_one, to_zero = [], []
    for q in range(6, length + 1):
        latest = (ones[:, :q] * place[:q]).amax(1)
        chosen = (~ones[:, q] & (latest > 0) & (latest < q - 1)).nonzero()[:, 0]
        to_one.append(pattern[chosen, :, q, latest[chosen]])
        to_zero.append(pattern[chosen, :, q, q - 1])
    latest, beside = torch.cat(to_one).mean(0), torch.cat(to_zero).mean(0)
    assert latest.max() > 0.5 and beside[latest.argmax()] < 0.05
