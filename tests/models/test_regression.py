"""The looped regressor: its equations, its start, its window, and that an iteration can be a step
of gradient descent."""

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.nn import Positions

from ..toys.reference_equations import rms, shaken

TASK = ls.tasks.build("regression", dimensions=3, points=5)


def built(**config):
    return ls.models.build(
        "regression", **({"features": 3, "width": 8, "heads": 2, "iterations": 4} | config)
    )


TOKENS = TASK.batch(4, seed=0).tokens


@pytest.mark.parametrize("injection", ["add", "multiply"])
def test_the_forward_pass_is_the_docstrings_equations(injection):
    model, tokens = shaken(built(injection=injection)), TOKENS.double()
    x = tokens @ model.read_in.weight.T + model.read_in.bias
    z = torch.zeros_like(x) if injection == "add" else torch.ones_like(x)
    for _ in range(4):
        z = z + x if injection == "add" else z * x
        z = model.core[0](z + model.place[:10], Positions.of(z))
        z = rms(z, model.ln_core)  # the final norm is inside the loop
    assert torch.allclose(model(tokens), z @ model.read_out.weight.T + model.read_out.bias, atol=1e-12)


def test_an_answer_never_sees_its_own_y():
    """The value asked at position 2i stands at position 2i + 1."""
    model, other = shaken(built()), TOKENS.clone()
    other[:, 5, 0] += 3.0
    one, two = model(TOKENS.double()), model(other.double())
    assert torch.equal(one[:, :5], two[:, :5])
    assert not torch.equal(one[:, 6], two[:, 6])


def test_rotary_positions_take_any_length_and_learned_ones_say_where_they_end():
    longer = TASK.batch(2, seed=0, points=40).tokens
    assert built(position="rotary")(longer).shape == (2, 80, 1)
    with pytest.raises(LoopscopeError, match="must get at most 64 of them, but got 80"):
        built()(longer)


def test_tokens_are_refused():
    with pytest.raises(
        LoopscopeError, match="floating-point numbers .batch, position, 3., but is torch.int64"
    ):
        built()(torch.zeros(2, 4, dtype=torch.long))
