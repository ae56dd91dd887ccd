"""An adapter is compared with its model again once the weights are other ones: in another
precision, or trained."""

import warnings

import pytest
import torch

import loopscope as ls

from ..toys.broken_adapters import Right, WideInHalf, small, tokens
from ..toys.foreign_loops import Loop, batch, build_loop


class Stale(Right):
    """Reads out with the weights that the model had when it was wrapped."""

    def __init__(self, module):
        super().__init__(module)
        self.weight = module.head.weight.detach().clone()

    def decode(self, state, context):
        return super().decode(state, context) + state @ (self.weight - self.module.head.weight).T


def refused(model):
    """Whether a recording says that the four functions differ."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = ls.record(model, tokens())
    assert torch.equal(run.output, model.module(tokens()))
    return any(
        "the four functions must give what Small's own forward gives" in str(one.message) for one in caught
    )


def test_a_model_that_is_converted_is_compared_again_and_again_when_converted_back():
    model = WideInHalf(small())
    assert not refused(model)
    model.module.half()
    assert refused(model)
    with pytest.raises(ls.LoopscopeError, match="nothing is computed from the four functions"):
        model.encode(tokens())
    model.module.float()
    assert not refused(model) and ls.record(model, tokens()).logits[1] is not None


def test_a_model_that_is_trained_is_compared_again():
    model = Stale(small())
    assert not refused(model) and not refused(model)
    with torch.no_grad():
        model.module.head.weight.mul_(1.5)
    assert refused(model)


def test_the_same_weights_are_compared_once():
    model, calls = Right(small()), []
    model.module.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(3):
        ls.record(model, tokens())
    assert len(calls) == 1


def test_a_body_wrap_is_compared_again_and_keeps_the_answer_on_its_present_weights_alone():
    model, kinds = ls.wrap(build_loop(Loop), body="core"), set()

    def compare(tokens):
        _ = ls.record(model, tokens).logits[1]
        assert len(model.iterated.answers) == 1
        kinds.update(model.iterated.answers)

    compare(batch())
    model.module.double()
    compare(batch().double())
    with torch.no_grad():
        model.module.core.linear.weight.mul_(0.5)
    compare(batch().double())
    assert len(kinds) == 3
