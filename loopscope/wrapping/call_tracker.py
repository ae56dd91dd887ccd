"""The body of somebody else's loop: counts iterations from its calls, and records and edits what
passes by."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..core.hooks import After, Before, TemporaryHooks
from ..core.loop_index import Clock
from ..core.sites import axes_of, find_tensor, get_at, put_at
from ..core.states import States
from ..interventions.edit_checks import check_axes
from ..interventions.edits import Edit
from ..interventions.freeze import FrozenSite
from ..interventions.schedule import ScheduleEdit
from ..runs.collector import Collector, Entry
from ..runs.reader import Reader
from ..runs.run import Run
from .batch_rows import Rows

ITERATION = ("iteration",)
BETWEEN = "between"
"""Marks a call that came between two calls of the body, until it is known which iteration it
belongs to."""


class Named(Protocol):
    """A module with the names of its loop body and inner loops:
    `loopscope.wrapping.wrap_module.Wrapped`."""

    module: nn.Module
    body: list[str]
    inner: dict[str, str]
    clock: Clock
    body_receives_state: bool
    """Whether what the body is given first is states[0], as far as nothing comes between two
    calls."""


class Body:
    """Follows one forward pass of a wrapped module."""

    def __init__(
        self,
        wrapped: Named,
        modules: Mapping[str, nn.Module],
        collector: Collector,
        edits: Mapping[str, list[Edit]],
        *,
        schedule: Sequence[ScheduleEdit],
        count: int | None,
        rows: Rows | None = None,
    ) -> None:
        """`count`: how many iterations will run, if known; what counts from the end needs it.
        `rows`: follows who is in the batch."""
        self.rows = rows
        self.wrapped, self.modules, self.collector, self.edits = wrapped, modules, collector, edits
        self.clock, self.count = wrapped.clock, count
        self.times = {m.iteration + (count or 0) if m.iteration < 0 else m.iteration: m for m in schedule}
        self.unused: list[Edit | ScheduleEdit] = [
            *(edit for group in edits.values() for edit in group),
            *schedule,
        ]
        self.done = 0
        """Iterations that are over."""
        self.inside = False
        """Whether the body is running."""
        self.passed: Tensor | None = None
        """What the body was given last; the very tensor, which it may overwrite."""
        self.first: Tensor | None = None
        """What it was given first."""
        self.received: Tensor | None = None
        """The same as a value."""
        self.gave: Tensor | None = None
        """What the body gave last."""
        self.unmixed = True
        """Whether every iteration received exactly what the one before gave."""
        self.turns = dict.fromkeys(wrapped.inner, 0)

    def attach(self, taps: TemporaryHooks) -> None:
        """Put taps on the body and the inner loops."""
        members = [self.modules[name] for name in self.wrapped.body]
        # Inside the body's own taps, which may be on the same module.
        for axis, name in self.wrapped.inner.items():
            taps.attach(self.modules[name], before=self._turn(axis), after=self._turned(axis))
        if len(members) == 1 or _tied(members):
            for member in members:
                taps.attach(member, before=self._begin, after=self._end(member))
        else:
            taps.attach(members[0], before=self._begin)
            taps.attach(members[-1], after=self._end(None))

    def _begin(self, args: Any, kwargs: Any) -> Any:
        if self.inside:  # the first part again, such as the inner loop that an iteration opens with
            return args, kwargs
        self.clock.set(("iteration", self.done))
        self.inside = True
        path = find_tensor((args, kwargs), self.gave)
        if path is None:
            raise LoopscopeError(
                f"the body '{self.wrapped.body[0]}' must receive a floating-point tensor to have a state, "
                f"but its call {self.done} received none. Name the part that takes and gives the state."
            )
        value = new = get_at((args, kwargs), path)
        if self.rows is not None:
            self.collector.rows = self.rows.at(len(value))
            self.collector.batch = self.rows.batch
        if self.gave is None:
            self.first = value
        if self.gave is None and self.wrapped.body_receives_state:
            new = self.collector.take("state", ITERATION, (0,), self._edited("state", value, (0,)))
        elif self.gave is not None and not _same(value, self.gave):
            self.unmixed = False
        new = self._edited("core_in", new, (self.done,))
        new = self.collector.take("core_in", ITERATION, (self.done,), new)
        if new is not value:
            args, kwargs = put_at((args, kwargs), path, new)
        skipped = self.done in self.times and not self.times[self.done].times
        self.passed, self.received = new, new.clone() if skipped else new  # a body may overwrite what it gets
        return args, kwargs

    def _end(self, module: nn.Module | None) -> After:
        """What to do after the body's last part; `module` is that part if it can be called again by
        itself."""
        original = None if module is None else module.forward

        def end(args: Any, kwargs: Any, output: Any) -> Any:
            path = find_tensor(output, self.received)
            if path is None or self.received is None:
                raise LoopscopeError(
                    f"the body '{self.wrapped.body[-1]}' must give a floating-point tensor, but gave "
                    f"{type(output).__name__}. Name the part that takes and gives the state."
                )
            moment = self.times.get(self.done)
            for _ in range(1, 1 if moment is None else moment.times):
                where = find_tensor((args, kwargs), self.received)
                if original is None or where is None:
                    raise LoopscopeError(
                        f"{moment}: only a body that is one module can be repeated. Skip it, or wrap "
                        "another body."
                    )
                again, named = put_at((args, kwargs), where, get_at(output, path))
                output = original(*again, **named)
            value = new = get_at(output, path)
            if moment is not None:
                self._used(moment)
                new = new if moment.times else self.received
            new = self._edited("state", new, (self.done + 1,))
            if new is not value and value is self.passed:
                value.copy_(new)  # it works in place, and its caller may never look at what it returns
                new = value
            self.done += 1
            self.inside = False
            self.turns = dict.fromkeys(self.turns, 0)
            self.clock.set(("iteration", self.done))
            self.gave = self.collector.take("state", ITERATION, (self.done,), new)
            return output if self.gave is value else put_at(output, path, self.gave)

        return end

    def _turn(self, axis: str) -> Before:
        def before(args: Any, kwargs: Any) -> Any:
            self.clock.set(*(self._hands() or [("iteration", self.done)]), (axis, self.turns[axis]))
            return args, kwargs

        return before

    def _turned(self, axis: str) -> After:
        def after(args: Any, kwargs: Any, output: Any) -> Any:
            self.clock.set(*(hand for hand in self._hands() if hand[0] != axis))
            self.turns[axis] += 1
            return output

        return after

    def _hands(self) -> list[tuple[str, int]]:
        return list(zip(self.clock.axes, self.clock.index, strict=True))

    def site(self, name: str, record_it: bool) -> After:
        """What to do at each call of a module: edit its output, and record it if asked to."""

        def after(args: Any, kwargs: Any, output: Any) -> Any:
            path = find_tensor(output, self._like())
            if path is None:
                return output
            value = get_at(output, path)
            loops, index = self.clock.axes, self.clock.index
            if not loops:  # before the first call of the body
                loops, index = ITERATION, (self.done,)
            new = self._edited(name, value, index, loops)
            if record_it:
                new = self.collector.take(name, loops if self.inside else (BETWEEN, *loops), index, new)
            return output if new is value else put_at(output, path, new)

        return after

    def _like(self) -> Tensor | None:
        return self.received if self.gave is None else self.gave

    def _edited(
        self, site: str, value: Tensor, index: tuple[int, ...], loops: tuple[str, ...] = ITERATION
    ) -> Tensor:
        counted = None if self.count is None else self.count + (site == "state")
        for edit in self.edits.get(site, ()):
            axes = axes_of(site, value, self._like())
            check_axes(edit, axes + loops)
            if edit.applies_at(loops, index, counted):
                self._used(edit)
                value = edit.apply(value, axes)
        return value

    def _used(self, edit: Edit | ScheduleEdit) -> None:
        self.unused = [other for other in self.unused if other is not edit]

    @property
    def ragged(self) -> bool:
        """Whether the batch became smaller on the way, so that somebody must say which rows are
        left."""
        sizes = {entry.value.shape[:1] for entry in self.collector.entries("core_in")}
        return self.rows is None and len(sizes) > 1

    def run(self, tokens: Any, output: Any) -> Run:
        """The Run of what was collected, once the forward pass is over."""
        if not self.done:
            raise LoopscopeError(
                f"the body {self.wrapped.body} must be called at least once, but this forward pass called "
                f"it 0 times. Name a part that runs: {', '.join(list(self.modules)[:8])} ..."
            )
        if self.unused:
            raise LoopscopeError(
                f"{self.unused[0]} never applied: the loop ran {self.done} iterations (0..{self.done - 1}; "
                f"states 0..{self.done}). Choose an iteration that runs."
            )
        for site in self.collector.sites:
            self.collector.replace(site, _placed(self.collector.entries(site), self.done))
        result = self.collector.finish(self.done)
        states = result.get("state")
        if not self.unmixed:
            for edit in self.edits.get("state", ()):
                if isinstance(edit, FrozenSite):
                    edit.check_start(1, self.done)  # states[0] was never seen, so nothing can be held at it
        if not self.unmixed and isinstance(states, States):
            # Something is mixed in between two calls, so what came before the first mixing was
            # never seen.
            seen = {index: value for index, value in states.items() if index[0] > 0}
            result["state"] = states.with_values(seen, iteration_range=range(self.done + 1))
        detached = isinstance(output, Tensor) and not self.collector.grad
        return Run(
            tokens=tokens,
            iterations=self.done,
            sites=result,
            output=output.detach() if detached else output,
            origin={"body": self.wrapped.body, "inner": self.wrapped.inner},
            reader=Reader(self.wrapped.module, None, None, None, grad=self.collector.grad),
        )


def _placed(entries: list[Entry], done: int) -> list[Entry]:
    """Entries of one site, with each call made between two calls of the body given to the iteration
    it belongs to.

    A site first called before the body opens iterations; one first called after it closes them. A
    site called in one gap only stands outside the loop, before or after it.
    """
    between = [entry for entry in entries if entry.loops[:1] == (BETWEEN,)]
    placed = [entry for entry in entries if entry.loops[:1] != (BETWEEN,)]
    gaps = {entry.index[0] for entry in between}
    outside = len(gaps) == 1 and all(len(entry.index) == 1 for entry in between) and (done > 1 or not placed)
    for entry in between:
        t = entry.index[0] - (0 if 0 in gaps else 1)
        if outside or not 0 <= t < done:
            placed.append(entry._replace(loops=(), index=()))
        else:
            placed.append(entry._replace(loops=entry.loops[1:], index=(t, *entry.index[1:])))
    return placed


def _tied(modules: Sequence[nn.Module]) -> bool:
    """Whether different modules share the storage of all their parameters."""
    stores = [tuple(parameter.data_ptr() for parameter in module.parameters()) for module in modules]
    return bool(stores[0]) and all(store == stores[0] for store in stores)


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other))
