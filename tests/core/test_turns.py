"""Turns: who waits for whom, with barriers in place of time."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.core import turns
from loopscope.core.turns import check_no_pass, parts_of, running_pass, turn

from ..toys.moody_loop import MoodyLoop
from ..toys.threads import in_threads


class Holder(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)


def tied() -> tuple[nn.Module, nn.Module]:
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.weight.data = one.weight.data.view(2, 2)
    return one, other


def with_part() -> tuple[nn.Module, nn.Module]:
    part = nn.Linear(2, 2)
    return Holder(part), part


def wrapped_twice() -> tuple[Any, Any]:
    module = Holder(nn.Linear(2, 2))
    return ls.wrap(module, body="parts.0"), ls.wrap(module, body="parts.0")


def whole_and_wrapped_part() -> tuple[Any, Any]:
    model = MoodyLoop()
    return model, ls.wrap(Holder(model.core), body="parts.0")


SHARING = {
    "one model": lambda: (lambda model: (model, model))(MoodyLoop()),
    "two wraps": wrapped_twice,
    "a part": with_part,
    "a shared part": lambda: (lambda part: (Holder(part), Holder(nn.ReLU(), part)))(nn.Linear(2, 2)),
    "tied weights": tied,
    "a model and a wrapped part": whole_and_wrapped_part,
}


@pytest.mark.parametrize("kind", SHARING)
def test_models_that_share_anything_take_turns(kind):
    one, other = SHARING[kind]()
    assert both_at_once(lambda: turn(parts_of(one)), lambda: turn(parts_of(other))) == 1


def test_different_models_go_on_side_by_side_but_not_beside_a_seeded_pass():
    one, other = different(2)
    assert both_at_once(lambda: turn(one), lambda: turn(other)) == 2
    assert both_at_once(lambda: turn(one, seeded=True), lambda: turn(other)) == 1
    assert both_at_once(lambda: turn(one), lambda: turn(other, seeded=True)) == 1


def different(count: int) -> list[Any]:
    """The parts of models that share nothing. A model that is deleted may leave its numbers to
    another."""
    models = [nn.Linear(2, 2) for _ in range(count)]
    KEPT.extend(models)
    return [parts_of(model) for model in models]


KEPT: list[nn.Module] = []


def both_at_once(one: Callable[[], Any], other: Callable[[], Any]) -> int:
    """How many of two threads had their turns at once. Two that can be at once meet at a barrier;
    two that can't never do, and the barrier breaks."""
    inside, most, meeting, lock = 0, 0, threading.Barrier(2), threading.Lock()

    def take(make: Callable[[], Any]) -> None:
        nonlocal inside, most
        with make():
            with lock:
                inside += 1
                most = max(most, inside)
            with suppress(threading.BrokenBarrierError):
                meeting.wait(0.3)
            with lock:
                inside -= 1

    in_threads([lambda: take(one), lambda: take(other)])
    return most


def test_a_thread_may_take_a_turn_inside_its_own():
    (parts,) = different(1)
    with turn(parts), turn(parts, seeded=True), turn(parts):
        pass
    in_threads([lambda: turn(parts).__enter__()])  # nobody holds it any more
    with pytest.raises(ValueError, match="stop"), turn(parts):
        raise ValueError("stop")


def test_two_threads_that_would_wait_for_each_other_are_told():
    one, other = different(2)
    both, said = threading.Barrier(2), []

    def first_then(first: Any, second: Any) -> None:
        with turn(first):
            both.wait()
            try:
                with turn(second):
                    pass
            except ls.LoopscopeError as error:
                said.append(str(error))

    in_threads([lambda: first_then(one, other), lambda: first_then(other, one)])
    assert len(said) == 1 and "must not wait for each other" in said[0]


def test_a_seeded_turn_is_not_passed_over_for_ever():
    """A thread that begins later waits behind one that waits for a seeded turn."""
    one, two, three = different(3)
    order, began = [], threading.Event()

    def unseeded() -> None:
        with turn(one):
            began.set()
            wait_for_queue(2)

    def seeded() -> None:
        began.wait()
        with turn(two, seeded=True):
            order.append("seeded")

    def late() -> None:
        began.wait()
        wait_for_queue(1)
        with turn(three):
            order.append("late")

    in_threads([unseeded, seeded, late])
    assert order == ["seeded", "late"]


def wait_for_queue(count: int) -> None:
    """Until so many threads wait for their turns."""
    while len(turns._queue) < count:
        pass


def test_inside_a_pass_nothing_else_of_the_same_modules_begins():
    model, other = MoodyLoop(), MoodyLoop()
    with running_pass(parts_of(model)):
        check_no_pass(parts_of(other), "a recording")
        in_threads([lambda: check_no_pass(parts_of(model), "a recording")])
        with pytest.raises(ls.LoopscopeError, match="a recording must begin after a recording of the same"):
            check_no_pass(parts_of(Holder(model.core)), "a recording")
    check_no_pass(parts_of(model), "a recording")
    assert torch.is_grad_enabled()
