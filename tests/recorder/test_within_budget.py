"""A budget takes no part of a run that can't be measured."""

from types import SimpleNamespace

import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.common.price import Price
from loopscope.recorder.within_budget import fitted

MODEL = ls.models.build("universal", vocabulary=5, width=8, heads=2, iterations=2).eval()


def test_a_part_that_has_no_price_is_not_free():
    def price(run):
        if len(run.tokens) < 16:
            raise LoopscopeError("needs 16 examples")
        return Price(100.0)

    run = ls.record(MODEL, torch.randint(0, 5, (16, 3)), 2)
    module = SimpleNamespace(price=price)
    assert fitted(module, run, {}, 50.0) == Price(100.0)
    assert fitted(module, run, {}, 100.0).changes == ()
