"""A body that carries several tensors: said, refused where only one would move, and recorded whole
when they are named."""

import warnings
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import loopscope as ls

from ..toys import foreign_loops

WIDTH, TURNS = 6, 4
X, OTHER = (torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(n)) for n in (0, 1))


class Pair(nn.Module):
    """(branch, residual) -> (linear(branch + residual), branch + residual), in some form."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.linear, self.form = nn.Linear(WIDTH, WIDTH), form

    def map(self, branch: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(branch + residual), branch + residual

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


class Positional(Pair):
    def forward(self, branch: Tensor, residual: Tensor) -> Any:
        new = self.map(branch, residual)
        return {
            "tuple": new,
            "list": [*new],
            "turned": new[::-1],
            "dict": {"residual": new[1], "branch": new[0]},
            "namespace": SimpleNamespace(branch=new[0], residual=new[1], cost=0.5),
        }[self.form]


class Carried(Pair):
    def forward(self, carry: dict[str, Tensor], mask: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        branch, residual = self.map(carry["branch"] * mask, carry["residual"])
        return {"branch": branch, "residual": residual}, mask


class Loop(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form, self.core = form, Carried(form) if form == "carry" else Positional(form)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x, torch.zeros_like(x)
        carry, mask = {"branch": a, "residual": b}, torch.ones_like(x)
        for _ in range(TURNS):
            if self.form == "carry":
                carry, mask = self.core(carry, mask)
                a, b = carry["branch"], carry["residual"]
                continue
            out = self.core(a, residual=b) if self.form == "dict" else self.core(a, b)
            if self.form == "dict":
                a, b = out["branch"], out["residual"]
            elif self.form == "namespace":
                a, b = out.branch, out.residual
            else:
                a, b = reversed(out) if self.form == "turned" else out
        return a + 2 * b


FORMS = ("tuple", "list", "turned", "dict", "namespace", "carry")
NAMES = dict.fromkeys(FORMS, ("branch", "residual")) | {"carry": ("carry.branch", "carry.residual")}
forms = pytest.mark.parametrize("form", FORMS)


@torch.no_grad()
def by_hand(form: str, x: Tensor, edits: Any = None) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Both tensors after k iterations, and the answer."""
    core, pair, states = Loop(form).core, (x, torch.zeros_like(x)), []
    for k in range(TURNS + 1):
        pair = (edits or {}).get(k, lambda pair: pair)(pair)
        states.append(pair)
        if k < TURNS:
            pair = core.map(*pair)
    return states, states[-1][0] + 2 * states[-1][1]


def without(number: int, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """The pair with one tensor zero."""
    return tuple(torch.zeros_like(part) if n == number else part for n, part in enumerate(pair))


def recorded(form: str, x: Tensor, state: Any, **options: Any) -> Any:
    return ls.record(ls.wrap(Loop(form), body="core", state=state), x, **options)


@forms
def test_several_carried_tensors_are_said_and_named(form):
    with pytest.warns(ls.LoopscopeWarning, match=r"carries 2 tensors .* state=\('") as caught:
        ls.record(ls.wrap(Loop(form), body="core"), X)
    assert all(name in str(caught[0].message) for name in NAMES[form])
    assert caught[0].filename == __file__


@forms
@pytest.mark.parametrize(
    "edit",
    [
        ls.patch(iteration=2, value=torch.zeros(2, 3, WIDTH)),
        ls.patch(iteration=2, value=torch.zeros(WIDTH), position=0),
        ls.freeze(iteration=1),
        ls.skip(1),
        ls.repeat(1),
    ],
    ids=str,
)
def test_an_edit_that_would_move_only_one_is_refused(form, edit):
    with pytest.raises(ls.LoopscopeError, match="must move the whole state, but the body"):
        ls.record(ls.wrap(Loop(form), body="core"), X, edits=[edit])


@forms
def test_a_named_state_has_both_and_a_transplant_moves_both(form, recwarn):
    states, answer = by_hand(form, X)
    donor, run = recorded(form, OTHER, NAMES[form]), recorded(form, X, NAMES[form])
    assert not recwarn.list
    assert torch.equal(run.output, answer)
    for k, (branch, residual) in enumerate(states):
        assert torch.equal(run.states[k], branch) and torch.equal(run["state.residual"][k], residual)
        moved = recorded(form, X, NAMES[form], edits=[ls.patch(iteration=k, value=donor.state(k))])
        assert torch.equal(moved.output, donor.output)
    one = recorded(form, X, NAMES[form], edits=[ls.ablate("state.residual", iteration=2)])
    _, answer = by_hand(form, X, {2: lambda pair: (pair[0], torch.zeros_like(X))})
    assert torch.equal(one.output, answer)


@forms
def test_the_schedule_moves_both(form):
    states, _ = by_hand(form, X)
    skipped = recorded(form, X, NAMES[form], edits=[ls.skip(1)])
    assert torch.equal(skipped.output, states[3][0] + 2 * states[3][1])
    repeated = recorded(form, X, NAMES[form], edits=[ls.repeat(2)])
    a, b = by_hand(form, X)[0][-1]
    with torch.no_grad():
        a, b = Loop(form).core.map(a, b)
    assert torch.equal(repeated.output, a + 2 * b)


@forms
def test_one_that_is_named_is_the_state_and_nothing_is_said(form, recwarn):
    states, _ = by_hand(form, X)
    for number, name in enumerate(NAMES[form]):
        run = recorded(form, X, name)
        assert all(torch.equal(run.states[k], pair[number]) for k, pair in enumerate(states))
        edited = recorded(form, X, name, edits=[ls.patch(iteration=2, value=torch.zeros(WIDTH))])
        _, answer = by_hand(form, X, {2: partial(without, number)})
        assert torch.equal(edited.output, answer)
    assert not recwarn.list


@pytest.mark.parametrize("state", [(0, 1), [0, 1], {"branch": 0, "residual": 1}, {0: 0, 1: 1}, ("branch", 1)])
def test_names_and_numbers_mean_the_same(state, recwarn):
    run, named = recorded("tuple", X, state), recorded("tuple", X, ("branch", "residual"))
    assert run.names == named.names and not recwarn.list
    assert torch.equal(run["state.residual"].tensor, named["state.residual"].tensor)
    assert run.origin["fields"] == ["branch", "residual"]


def test_where_something_comes_between_the_output_is_named():
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core = Positional("turned")

        def forward(self, x: Tensor) -> Tensor:
            a, b = x, torch.zeros_like(x)
            for _ in range(3):
                b, a = self.core(a + 1, b + 1)
            return a + b

    with pytest.raises(
        ls.LoopscopeError, match=r"Say it: state=\{'branch': \.\.\.\} with one of a tuple with 0, 1"
    ):
        ls.record(ls.wrap(Shifted(), body="core", state=("branch", "residual")), X)
    run = ls.record(ls.wrap(Shifted(), body="core", state={"branch": 1, "residual": 0}), X)
    assert torch.equal(run.output, run.states[3] + run["state.residual"][3])
    for name in ("state", "state.residual"):
        assert run[name].iterations == [1, 2, 3]


class Injecting(nn.Module):
    """The body receives the embedding first, then the state; what it returns first, nobody
    reads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.core = self.Core()

    class Core(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(WIDTH, WIDTH)

        def forward(self, e: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            new = torch.tanh(self.linear(h) + e)
            return new * 2, new, e

    def forward(self, x: Tensor) -> Tensor:
        h = torch.ones_like(x)
        for _ in range(3):
            _, h, _ = self.core(x, h)
        return h


def test_the_state_is_what_goes_round_and_not_what_comes_first(recwarn):
    model, x = Injecting(), X.clone()
    run = ls.record(ls.wrap(model, body="core"), x)
    h = torch.ones_like(X)
    for k in range(4):
        assert torch.equal(run.states[k], h)
        if k < 3:
            assert torch.equal(run["core_in"][k], h)
        with torch.no_grad():
            h = model.core(X, h)[1]
    assert not recwarn.list
    with torch.no_grad():
        truth = model.core(X, torch.zeros_like(X))[1]
    patched = ls.record(ls.wrap(model, body="core"), x, edits=[ls.ablate("state", iteration=2)])
    assert torch.equal(patched.output, truth)


def test_what_is_only_passed_through_is_no_state():
    class Passing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core = self.Core()

        class Core(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = nn.Linear(WIDTH, WIDTH)

            def forward(self, h: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
                bias = torch.arange(3.0)[:, None].expand(h.shape).clone() if bias is None else bias
                return torch.tanh(self.linear(h) + bias), bias

        def forward(self, x: Tensor) -> Tensor:
            h, bias = x, None
            for _ in range(TURNS):
                h, bias = self.core(h, bias)
            return h

    with warnings.catch_warnings():
        warnings.simplefilter("error", ls.LoopscopeWarning)
        ls.record(ls.wrap(Passing(), body="core"), X, edits=[ls.patch(iteration=2, value=OTHER)])


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (
            "nope",
            r"state='nope' must name a floating-point tensor that the body receives, .* 'branch', 'residual'",
        ),
        (7, r"state=7 must name a floating-point tensor that the body receives"),
        (
            {"branch": 9},
            r"must name a floating-point tensor that the body returns, but it returns a tuple with 0, 1",
        ),
        (("branch", 0), "state must name each tensor once"),
        ([], "state must name arguments of the body"),
        (1.5, "state must be a string, a whole number, a sequence"),
        ({"branch": 1.5}, "state must name arguments of the body"),
        (True, "state must be a string, a whole number, a sequence"),
        (-1, "state must name arguments of the body"),
    ],
)
def test_what_names_no_tensor_is_said(state, text):
    with pytest.raises(ls.LoopscopeError, match=text):
        recorded("tuple", X, state)


def test_one_of_several_fields_is_not_held_alone():
    with pytest.raises(ls.LoopscopeError, match="one alone can't be held. Skip the iteration"):
        recorded("tuple", X, ("branch", "residual"), edits=[ls.freeze("state.residual", iteration=1)])


@pytest.mark.parametrize("state", ["h", 0, {"h": 0}])
def test_the_only_tensor_that_a_body_takes_and_returns_may_be_named(state):
    module = foreign_loops.build_loop(foreign_loops.Loop)
    named, plain = (
        ls.record(ls.wrap(module, body="core", **options), foreign_loops.batch())
        for options in ({"state": state}, {})
    )
    assert all(torch.equal(named.states[k], plain.states[k]) for k in plain.states.iterations)
