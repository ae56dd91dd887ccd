"""Whatever a wrapped module returns, its logits are found, and an analysis measures it or says what
it needs."""

from collections import OrderedDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import loopscope as ls
from loopscope.core.output_logits import find_logits

TOKENS = torch.randint(0, 11, (3, 5), generator=torch.Generator().manual_seed(0))


@dataclass
class Answer:
    loss: Tensor
    logits: Tensor


class Named(NamedTuple):
    loss: Tensor
    logits: Tensor


LOSS = torch.tensor(0.5)
FORMS = {
    "tensor": lambda y: y,
    "dict": lambda y: {"loss": LOSS, "logits": y},
    "dict of other names": lambda y: {"loss": LOSS, "y": y},
    "ordered": lambda y: OrderedDict(hidden=torch.zeros(3, 5, 2), logits=y),
    "list": lambda y: [y],
    "tuple": lambda y: (y, None),
    "loss first": lambda y: (LOSS, y),
    "nested": lambda y: (LOSS, {"logits": y}),
    "namespace": lambda y: SimpleNamespace(logits=y),
    "dataclass": lambda y: Answer(LOSS, y),
    "named tuple": lambda y: Named(LOSS, y),
}
NONE = {"nothing": None, "words": "abc", "a number": 3.0, "loss alone": (LOSS,), "an empty dict": {}}


class Loop(nn.Module):
    def __init__(self, form) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form = form
        self.embed, self.core, self.head = nn.Embedding(11, 8), nn.Linear(8, 8), nn.Linear(8, 11)

    def forward(self, tokens: Tensor) -> object:
        h = self.embed(tokens)
        for _ in range(4):
            h = torch.tanh(self.core(h))
        return self.form(self.head(h))


def recorded(form):
    model = Loop(form)
    return model, ls.record(ls.wrap(model, body="core"), TOKENS)


@pytest.mark.parametrize("form", FORMS)
def test_the_logits_are_found_in_every_form_of_output(form):
    model, run = recorded(FORMS[form])
    logits = find_logits(run.output)
    assert logits is not None and torch.equal(logits, find_logits(model(TOKENS)))
    assert logits.shape == (3, 5, 11)
    read = ls.lens(run, lambda h: model.head(torch.tanh(h)))
    assert torch.allclose(read.logits(-1), logits, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_every_iteration_is_read_out_from_it(form):
    model, run = recorded(FORMS[form])
    assert torch.equal(run.logits[run.iterations], find_logits(run.output))
    assert torch.allclose(run.logits[1], model.head(torch.tanh(run.states[1])), atol=1e-6)


@pytest.mark.parametrize("form", NONE)
@pytest.mark.parametrize("analysis", ["causes", "lens"])
def test_an_analysis_of_it_says_what_it_needs(form, analysis):
    _, run = recorded(lambda y: NONE[form])
    with pytest.raises(ls.LoopscopeError, match="must hold logits|with logits"):
        ls.analyses.measure(analysis, run)


@pytest.mark.parametrize("form", NONE)
def test_an_output_without_logits_has_none(form):
    assert find_logits(NONE[form]) is None


class Turning(nn.Module):
    """64 iterations of h -> -h, and each pass scales otherwise, so that it isn't gone on with."""

    def __init__(self) -> None:
        super().__init__()
        self.core = nn.Linear(6, 6, bias=False)
        with torch.no_grad():
            self.core.weight.copy_(-torch.eye(6))
        self.passes = 0

    def forward(self, x: Tensor) -> str:
        self.passes += 1
        for _ in range(64):
            x = self.core(x * (1 + 1e-5 * self.passes))
        return "done"


@pytest.mark.parametrize("count", [4, 5, 8, 32])
def test_convergence_of_the_last_iterations_is_that_of_the_last_iterations(count):
    x = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(0))
    run = ls.record(ls.wrap(Turning(), body="core"), x, keep=ls.keep.last(count))
    if count < 5:
        with pytest.raises(ls.LoopscopeError, match="needs 4 iterations or more, but it has 3"):
            ls.analyses.measure("convergence", run)
        return
    result = ls.analyses.measure("convergence", run)
    assert (result.state.settled_fraction == 0).all()
    assert result.limit == 63


@pytest.mark.parametrize("t", [0, 2])
def test_not_a_number_is_said_by_its_iteration(t):
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core, self.calls = nn.Linear(8, 8), 0

        def forward(self, x: Tensor) -> Tensor:
            h = x
            for k in range(4):
                h = self.core(h)
                h = h * torch.nan if k == t else h
            return h

    words = f"'core_in' holds NaN or infinity from iteration {t + 1} on"
    with pytest.warns(ls.LoopscopeWarning, match=words):
        run = ls.record(ls.wrap(Failing(), body="core"), torch.randn(2, 3, 8))
    with pytest.raises(ls.LoopscopeError, match=words):
        ls.analyses.measure("convergence", run)
