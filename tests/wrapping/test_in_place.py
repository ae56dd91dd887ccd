"""Wherever a model works in place, an edit does what the loop written out by hand would do, and
nobody's values are written to."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import loopscope as ls

from ..toys.in_place_loops import TURNS, Change, batch, build, by_hand, family

loops = pytest.mark.parametrize(("kind", "place"), family())
X = batch()


def wrapped(kind: str, place: str) -> Any:
    return ls.wrap(build(kind, place), body="core")


def donor(kind: str, place: str) -> Any:
    return ls.record(wrapped(kind, place), batch(seed=5))


VALUE = batch(seed=3)


def at_last(value: Tensor, new: Tensor) -> Tensor:
    return torch.cat([value[:, :-1], new[:, -1:]], 1)


EDITS: dict[str, Callable[[int], tuple[Any, Change]]] = {
    "patch": lambda k: (ls.patch(iteration=k, value=VALUE), lambda h: VALUE),
    "patch of a position": lambda k: (
        ls.patch(iteration=k, value=VALUE, position=-1),
        lambda h: at_last(h, VALUE),
    ),
    "patch by one vector": lambda k: (
        ls.patch(iteration=k, value=VALUE[0, 0]),
        lambda h: VALUE[0, 0].expand(h.shape),
    ),
    "add": lambda k: (ls.add(iteration=k, value=VALUE[0, 0], scale=2), lambda h: h + 2 * VALUE[0, 0]),
    "ablate": lambda k: (ls.ablate("state", iteration=k), torch.zeros_like),
    "ablate by the mean": lambda k: (
        ls.ablate("state", how="mean", iteration=k),
        lambda h: h.mean(0, keepdim=True).expand(h.shape),
    ),
}


@loops
def test_states_are_those_of_the_loop_and_the_first_is_right_or_absent(kind, place):
    model = build(kind, place)
    run = ls.record(ls.wrap(model, body="core"), X)
    states, answer = by_hand(model, X)
    assert torch.equal(run.output, answer)
    for k in range(1, TURNS + 1):
        assert torch.equal(run.states[k], states[k])
    if 0 in run.states.iterations:
        assert torch.equal(run.states[0], states[0])
    assert (0 in run.states.iterations) == model.knows_its_start
    if not model.knows_its_start:
        with pytest.raises(ls.LoopscopeIndexError, match="something changes the state between two calls"):
            run.states[0]


@loops
@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_loop_is_the_loop_by_hand_twice(kind, place, edit):
    model = build(kind, place)
    handle, kept, given = ls.wrap(model, body="core"), VALUE.clone(), X.clone()
    for k in (0, 2, TURNS) if model.knows_its_start else (2, TURNS):
        made, change = EDITS[edit](k)
        states, answer = by_hand(model, X, {k: change})
        for _ in range(2 if k == 2 else 1):
            run = ls.record(handle, X, edits=[made])
            assert torch.allclose(run.output, answer, atol=1e-6), k
            assert torch.allclose(run.states[k], states[k], atol=1e-6)
    assert torch.equal(VALUE, kept) and torch.equal(X, given)


@loops
def test_a_transplant_leaves_the_donor_alone_and_gives_its_answer(kind, place):
    handle = wrapped(kind, place)
    other = ls.record(handle, batch(seed=5))
    kept = {k: other.states[k].clone() for k in other.states.iterations}
    for k in other.states.iterations:
        run = ls.record(handle, X, edits=[ls.patch(iteration=k, value=other.states[k])])
        assert torch.equal(run.output, other.output)
    assert all(torch.equal(other.states[k], value) for k, value in kept.items())


@loops
def test_what_is_held_is_the_value_when_holding_began(kind, place):
    model = build(kind, place)
    run = ls.record(ls.wrap(model, body="core"), X, edits=[ls.freeze(iteration=2)])
    held = by_hand(model, X)[0][2]
    assert all(torch.equal(run.states[k], held) for k in range(2, TURNS + 1))
    assert torch.equal(run.output, held * 2)


@loops
def test_a_skipped_iteration_leaves_the_state_as_it_was(kind, place):
    model = build(kind, place)
    for t in range(not model.knows_its_start, TURNS):
        run = ls.record(ls.wrap(model, body="core"), X, sites=["core.linear"], edits=[ls.skip(t)])
        states = by_hand(model, X)[0]
        if model.knows_its_start:
            assert torch.equal(run.output, states[TURNS - 1] * 2)
            assert torch.equal(run.states[t + 1], states[t])
        else:
            assert torch.equal(run.states[t + 1], run.states[t])
        assert t not in run["core.linear"].iterations


@loops
def test_an_iteration_runs_several_times_on_its_own_result(kind, place):
    model = build(kind, place)
    handle, repeat = ls.wrap(model, body="core"), ls.repeat(1, times=3)
    if not model.knows_its_start:
        with pytest.raises(ls.LoopscopeError, match="can't be repeated: something changes the state between"):
            ls.record(handle, X, edits=[repeat])
        return
    h = by_hand(model, X)[0][-1]
    with torch.no_grad():
        again = model.core.map(model.core.map(h))
    assert torch.equal(ls.record(handle, X, edits=[repeat]).output, 2 * again)


@loops
def test_an_edit_of_the_bodys_input_or_of_a_part_reaches_the_answer(kind, place):
    model, given = build(kind, place), VALUE.clone()
    handle = ls.wrap(model, body="core")
    _, answer = by_hand(model, X, {2: lambda h: VALUE - (3 if place.startswith("between") else 0)})
    run = ls.record(handle, X, edits=[ls.patch("core_in", iteration=2, value=VALUE)])
    assert torch.allclose(run.output, answer, atol=1e-5)
    part = ls.record(handle, X, edits=[ls.patch("core.linear", iteration=2, value=VALUE)])
    _, answer = by_hand(model, X, {3: lambda h: torch.tanh(VALUE)})
    assert torch.allclose(part.output, answer, atol=1e-6) and torch.equal(VALUE, given)


@loops
def test_an_edit_where_the_start_is_unknown_is_refused(kind, place):
    model = build(kind, place)
    for edit in (ls.patch(iteration=0, value=VALUE), ls.ablate("state"), ls.skip(0)):
        if model.knows_its_start:
            ls.record(ls.wrap(model, body="core"), X, edits=[edit])
        else:
            with pytest.raises(ls.LoopscopeError, match=r"states\[0\] must be known to be edited"):
                ls.record(ls.wrap(model, body="core"), X, edits=[edit])


@loops
def test_inputs_that_are_written_to_are_copies(kind, place):
    class Writing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = build(kind, place)

        def forward(self, x: Tensor, extra: dict[str, Tensor]) -> Tensor:
            x += 1
            extra["offset"] += 1
            return self.model(x + extra["offset"])

    x, extra = X.clone(), {"offset": torch.zeros(1)}
    handle = ls.wrap(Writing(), body="model.core")
    one, other = (ls.record(handle, x, extra=extra) for _ in range(2))
    assert torch.equal(x, X) and not extra["offset"].any()
    assert torch.equal(one.output, other.output)
    assert torch.allclose(one.output, by_hand(build(kind, place), X + 2)[1], atol=1e-5)


def test_an_edit_that_the_module_does_not_go_on_from_is_refused():
    class Core(torch.nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            return h.add_(1).clone()

    class Ignoring(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core = Core()

        def forward(self, x: Tensor) -> Tensor:
            h = x.clone()
            for _ in range(3):
                self.core(h)
            return h

    with pytest.raises(ls.LoopscopeError, match="doesn't use what 'core' returns"):
        ls.record(ls.wrap(Ignoring(), body="core"), X, edits=[ls.ablate("state", iteration=1)])
    run = ls.record(ls.wrap(Ignoring(), body="core"), X, edits=[ls.ablate("core_in", iteration=1)])
    assert torch.equal(run.output, torch.full_like(X, 2.0))
