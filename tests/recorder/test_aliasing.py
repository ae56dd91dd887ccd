"""What loopscope takes in is its own afterwards: nothing of the caller's is written to, and nothing
that the caller writes later changes a run. Whoever writes: the caller before or after, or the model
in place."""

from collections import UserDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import loopscope as ls
from loopscope.core.copied import copied
from loopscope.nn import LoopedModule

N = 4


class Pair(NamedTuple):
    h: Tensor
    memory: Tensor


class Writing(LoopedModule):
    """Four functions that write into all that they are given: tokens, and both tensors of the
    state."""

    def __init__(self) -> None:
        super().__init__(N, 3, Pair._fields)
        self.setup()

    def encode(self, tokens: Tensor) -> Tensor:
        context = torch.sin(tokens.double()[..., None] + torch.arange(3))
        tokens.zero_()
        return context

    def initial(self, context: Tensor) -> Pair:
        return Pair(context.clone(), -context)

    def step(self, state: Pair, context: Tensor, t: int) -> Pair:
        h = 0.5 * state.h + state.memory + 0.1 * t
        memory = 0.9 * state.memory + 0.1 * state.h
        for part in state:
            if not part.requires_grad:
                part.mul_(0)
        return Pair(h, memory)

    def decode(self, state: Pair, context: Tensor) -> Tensor:
        return state.h + context


class Body(nn.Module):
    def forward(self, h: Tensor, shift: Tensor) -> Tensor:
        return h.mul_(0.5).add_(shift)


class WritingModule(nn.Module):
    """A module that writes into its input, into every further one, and into its state between two
    calls of the body."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Body()

    def forward(self, x: Tensor, *, shift: Any = None, extra: Any = None) -> Tensor:
        shift = torch.ones(3) if shift is None else shift["by"][0]
        for _ in range(N):
            x = self.core(x, shift)
            x += 1
        shift.zero_()
        if extra is not None:
            extra.values.zero_()
        return x.clone()


class Plain(WritingModule):
    """The same without a word of its own in place."""

    def forward(self, x: Tensor, *, shift: Any = None, extra: Any = None) -> Tensor:
        shift = torch.ones(3) if shift is None else shift["by"][0]
        for _ in range(N):
            x = 0.5 * x + shift + 1
        return x


TOKENS = torch.arange(6).reshape(2, 3)
X = torch.linspace(-1, 1, 18).reshape(2, 3, 3)


@dataclass
class Extra:
    values: Tensor


def looped(edits=(), tokens=TOKENS, **options):
    return ls.record(Writing().eval(), tokens, edits=edits, copy=True, **options)


def wrapped(edits=(), tokens=X, **inputs):
    return ls.record(ls.wrap(WritingModule(), body="core"), tokens, edits=edits, **inputs)


RECORDERS = {"looped": (looped, torch.float64, TOKENS), "wrapped": (wrapped, torch.float32, X)}
VALUES = {
    "tensor": lambda dtype: torch.full((2, 3, 3), 0.3, dtype=dtype),
    "view": lambda dtype: torch.full((4, 2, 3, 3), 0.3, dtype=dtype)[1],
    "expanded": lambda dtype: torch.full((3,), 0.3, dtype=dtype).expand(2, 3, 3),
    "vector": lambda dtype: torch.full((3,), 0.3, dtype=dtype),
    "other dtype": lambda dtype: torch.full((2, 3, 3), 0.25, dtype=torch.float16),
    "array": lambda dtype: np.full((2, 3, 3), 0.3),
    "list": lambda dtype: [0.3, 0.2, 0.1],
}
MAKE = {
    "patch": lambda value: ls.patch(value=value, iteration=2),
    "patch a part": lambda value: ls.patch(value=value, iteration=2, batch=slice(None)),
    "add": lambda value: ls.add(value=value, iteration=2),
    "add scaled": lambda value: ls.add(value=value, scale=2, iteration=2),
}


def overwrite(value):
    if isinstance(value, Tensor):
        value._base.fill_(9.0) if value._base is not None else value.fill_(9.0)
    else:
        value[:] = [9.0] * len(value) if isinstance(value, list) else 9.0


def same(one, other):
    return torch.equal(one.output, other.output) and all(
        torch.equal(one[name].tensor, other[name].tensor) for name in one.names
    )


@pytest.mark.parametrize("form", VALUES)
@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("recorder", RECORDERS)
def test_an_edits_value_is_its_own(recorder, make, form):
    run, dtype, _ = RECORDERS[recorder]
    value = VALUES[form](dtype)
    before = copied(value)
    edit = MAKE[make](value)
    first = run([edit])
    assert np.array_equal(np.asarray(value), np.asarray(before)), "the model wrote into the caller's value"
    again = run([edit])
    assert same(first, again), "the same edit in two recordings"
    overwrite(value)
    assert same(run([edit]), first), "the caller wrote into the value after the edit was made"
    fresh = run([MAKE[make](before)])
    assert same(fresh, first) and same(run([edit, edit]) if make.startswith("patch") else fresh, first)


@pytest.mark.parametrize("recorder", RECORDERS)
def test_a_donors_states_stay_as_they_were(recorder):
    run, _, tokens = RECORDERS[recorder]
    donor, whole = run(tokens=tokens + 1), None
    before = {name: donor[name].tensor.clone() for name in donor.names}
    place = donor.states.iterations.index(2)  # a wrapped module's states begin with states[1]
    values = [donor.states[2], donor.states[1:3][1], donor.states.tensor[place], donor.states[2].mT.mT]
    if recorder == "looped":
        whole = donor.state(2)
        assert all(part.abs().sum() > 0 for part in whole)
        assert torch.equal(run([ls.patch(value=whole, iteration=2)]).states[3], donor.states[3])
    outputs = [run([ls.patch(value=value, iteration=2)]).output for value in values]
    assert all(torch.equal(output, outputs[0]) for output in outputs)
    assert all(torch.equal(donor[name].tensor, before[name]) for name in donor.names)
    patched = run([ls.patch(value=donor.states[2], iteration=2)])
    kept = patched.states[2].clone()
    donor.states[2].zero_()
    assert torch.equal(patched.states[2], kept), "and a write to the donor reaches no other run"


@pytest.mark.parametrize("recorder", RECORDERS)
def test_tokens_are_written_to_by_nobody(recorder):
    run, _, tokens = RECORDERS[recorder]
    given = tokens.clone()
    first = run(tokens=given)
    assert torch.equal(given, tokens) and torch.equal(first.tokens, tokens), "the model wrote"
    given.zero_()
    assert torch.equal(first.tokens, tokens), "the caller wrote"
    assert torch.equal(first.output, run().output)


def test_a_run_that_is_resumed_stays_as_it_was():
    model = Writing().eval()
    model.register_forward_hook(lambda *_: None)  # others' hooks: values may change in place
    run = ls.record(model, TOKENS, copy=True)
    before = {name: run[name].tensor.clone() for name in run.names}
    whole = ls.record(model, TOKENS, N + 2, copy=True)
    for start in (0, 2, N):
        longer = ls.resume(model, run, N + 2, start=start)
        assert same(longer, whole) and torch.equal(longer.tokens, TOKENS)
        longer.tokens.zero_()
    assert torch.equal(run.tokens, TOKENS)
    assert all(torch.equal(run[name].tensor, before[name]) for name in run.names)


class WritingReadOut(Writing):
    def decode(self, state: Pair, context: Tensor) -> Tensor:
        return state.h.mul_(2)


def test_a_read_out_that_writes_into_the_state_leaves_the_runs_as_it_was():
    run = ls.record(WritingReadOut().eval(), TOKENS, copy=True)
    before = run.states.tensor.clone()
    for k in (1, 1, 2, N):
        assert torch.equal(run.logits[k], 2 * before[k])
    assert torch.equal(run.states.tensor, before)


CONTAINERS = {
    "dict": lambda shift: {"by": [shift]},
    "nested": lambda shift: {"by": (shift, [shift])},
    "mapping": lambda shift: UserDict({"by": [shift]}),
}


@pytest.mark.parametrize("form", CONTAINERS)
def test_further_inputs_are_written_to_by_nobody(form):
    shift, extra = torch.full((3,), 0.5), Extra(torch.ones(2))
    first = wrapped(shift=CONTAINERS[form](shift), extra=extra)
    assert (shift == 0.5).all() and (extra.values == 1).all(), "the model wrote"
    assert torch.allclose(first.output, Plain()(X, shift=CONTAINERS[form](shift)))
    model = ls.wrap(WritingModule(), body="core")
    last = ls.record(
        model, X, edits=[ls.ablate("state", iteration=-1)], shift=CONTAINERS[form](shift), extra=extra
    )
    assert (shift == 0.5).all() and (last.states[N] == 0).all(), "also by the pass that counts"
    ls.find_loops(WritingModule(), X.clone(), shift=CONTAINERS[form](shift))
    assert (shift == 0.5).all()


def test_copies_keep_the_types_of_what_they_copy():
    class Count:
        def __init__(self) -> None:
            self.values = [torch.ones(2)]

    generator, module = torch.Generator(), nn.Linear(2, 2)
    value = {
        "a": Pair(torch.ones(1), torch.ones(1)),
        "b": [1, "x", None],
        "c": (generator, module),
        "d": Count(),
    }
    again = copied(value)
    assert type(again["a"]) is Pair and again["b"] == value["b"] and again["c"] == (generator, module)
    again["a"].h.zero_(), again["d"].values[0].zero_()
    assert value["a"].h == 1 and (value["d"].values[0] == 1).all()


@pytest.mark.parametrize("make", MAKE)
def test_gradients_still_reach_the_callers_value_and_input(make):
    value = torch.full((2, 3, 3), 0.3, requires_grad=True)
    x = X.clone().requires_grad_()
    body = ls.wrap(Loop(), body="core")
    run = ls.record(body, x, edits=[MAKE[make](value)], grad=True)
    slopes = torch.autograd.grad(run.output.sum(), [value, x], allow_unused=True, retain_graph=True)
    assert (slopes[0] == (0.25 if make != "add scaled" else 0.5)).all()
    assert slopes[1] is None or (slopes[1] == (0 if make.startswith("patch") else 0.0625)).all()
    (at_state,) = torch.autograd.grad(run.output.sum(), run.states[3], retain_graph=True)
    (at_tokens,) = torch.autograd.grad(run.output.sum(), run.tokens, allow_unused=True)
    assert (at_state == 0.5).all() and (at_tokens is None or at_tokens.abs().max() <= 0.0625)


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.core = Half()

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(N):
            x = self.core(x)
        return x


class Half(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return 0.5 * h
