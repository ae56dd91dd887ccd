"""Turns: of several threads, one at a time computes with a module.

A recording attaches hooks to the modules of a model and sets its clock, so two at once would mix
their values. A thread that needs a module, a part of it or a tensor of its weights waits until no
other thread uses it, however often the module was wrapped. Threads with different models go on side
by side, except beside a seeded pass: it sets torch's global generator, which all models draw from.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..common.errors import LoopscopeError
from .offloaded import is_offloaded, weights_at_hand


class Parts(frozenset[int]):
    """What a model consists of: its modules and the memory of its weights, as numbers."""

    offloaded: tuple[nn.Module, ...] = ()
    """The modules whose weights accelerate keeps elsewhere."""


@dataclass(frozen=True, eq=False)
class _Turn:
    thread: int
    parts: Parts
    seeded: bool

    def excludes(self, other: "_Turn") -> bool:
        """Whether this turn and one of another thread can't be at the same time."""
        return self.thread != other.thread and bool(
            self.seeded or other.seeded or not self.parts.isdisjoint(other.parts)
        )


class _Passes(threading.local):
    """The recorded passes that are running in this thread."""

    def __init__(self) -> None:
        self.running: list[Parts] = []


_changed = threading.Condition()
_turns: list[_Turn] = []
_queue: list[_Turn] = []
_passes = _Passes()


def modules_within(model: Any) -> list[nn.Module]:
    """Every module that a model consists of: its own, those of the module that it wraps, and those
    of the module whose forward it runs (`whole`)."""
    roots = [model, getattr(model, "module", None), getattr(model, "whole", None)]
    if not isinstance(model, nn.Module):
        roots += vars(model).values() if hasattr(model, "__dict__") else []
    result: dict[nn.Module, None] = {}
    for root in roots:
        if isinstance(root, nn.Module):
            _add_modules(root, result)
    return list(result)


def _add_modules(module: nn.Module, result: dict[nn.Module, None]) -> None:
    """Add a module and its parts, in the order of `nn.Module.modules`, which takes several times as
    long: every recording goes through all modules several times."""
    if module not in result:
        result[module] = None
        for part in module._modules.values():
            if part is not None and part._modules:
                _add_modules(part, result)
            elif part is not None:
                result.setdefault(part)


def parts_of(model: Any) -> Parts:
    """The parts of a model, by which two models that share some are recognised."""
    parts, modules = {id(model)}, modules_within(model)
    for module in modules:
        parts.add(id(module))
        for parameter in module._parameters.values():
            try:
                if parameter is not None and (address := parameter.untyped_storage().data_ptr()):
                    parts.add(-address)
            except (RuntimeError, NotImplementedError, AttributeError):  # weights without memory
                continue
    result = Parts(parts)
    result.offloaded = tuple(module for module in modules if is_offloaded(module))
    return result


@contextmanager
def turn(parts: Parts, *, seeded: bool = False) -> Iterator[None]:
    """Wait until no other thread computes with these parts; others wait until the block has ended.
    A thread may take a turn inside its own. Weights that are offloaded are afterwards where they
    were.

    Arguments:
        seeded: whether the block sets torch's global generator: then no other thread has a turn
            meanwhile, with whatever model.

    Raises:
        LoopscopeError: this thread would wait for one that waits for this thread.
    """
    mine = _Turn(threading.get_ident(), parts, seeded)
    with _changed:
        if _blockers(mine):
            _queue.append(mine)
            try:
                while _blockers(mine):
                    _check_no_circle(mine)
                    _changed.wait()
            finally:
                _queue.remove(mine)
                _changed.notify_all()
        _turns.append(mine)
    try:
        with weights_at_hand(parts.offloaded):
            yield
    finally:
        with _changed:
            _turns.remove(mine)
            _changed.notify_all()


@contextmanager
def running_pass(parts: Parts) -> Iterator[None]:
    """Mark that the hooks of a recording are attached to these parts inside the block."""
    _passes.running.append(parts)
    try:
        yield
    finally:
        _passes.running = [other for other in _passes.running if other is not parts]


def check_no_pass(parts: Parts, what: str) -> None:
    """Raise LoopscopeError if this thread is inside a recorded pass of the same modules, whose
    hooks would take what is computed now for their own.

    Arguments:
        what: is about to happen, such as "a recording".
    """
    if any(not parts.isdisjoint(other) for other in _passes.running):
        raise LoopscopeError(
            f"{what} must begin after a recording of the same model has ended, but this one is inside it: in "
            "a hook, an edit or a `with ls.recording(...)`. Do it after that, or with a copy of the model "
            "(copy.deepcopy)."
        )


def _blockers(mine: _Turn) -> list[int]:
    """The threads that a turn waits for: those that have theirs, and those that came before it. A
    thread that has a turn already doesn't queue for another, or those before it would wait for it
    and it for them."""
    ahead = list(_turns)
    if all(other.thread != mine.thread for other in _turns):
        ahead += _queue[: _queue.index(mine)] if mine in _queue else _queue
    return [other.thread for other in ahead if mine.excludes(other)]


def _check_no_circle(mine: _Turn) -> None:
    waiting = {other.thread: other for other in _queue}
    reached, heap = set(), _blockers(mine)
    while heap:
        thread = heap.pop()
        if thread == mine.thread:
            raise LoopscopeError(
                "two threads must not wait for each other, but each of two recordings that are running needs "
                "the model of the other. Record one model after the other, in the same order in every thread."
            )
        if thread not in reached and thread in waiting:
            heap += _blockers(waiting[thread])
        reached.add(thread)


def _after_fork() -> None:
    """In a new process only the thread that made it goes on."""
    global _changed, _turns, _queue
    _changed, _queue = threading.Condition(), []
    _turns = [one for one in _turns if one.thread == threading.get_ident()]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
