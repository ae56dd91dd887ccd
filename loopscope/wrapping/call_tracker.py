"""CallTracker: infers the iteration from calls of the loop body in a module's own forward, and
records and edits the values at its sites."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..core.hooks import After, Before, TemporaryHooks
from ..core.loop_index import Clock
from ..core.sites import axes_of, find_tensor, get_at, put_at
from ..core.states import States
from ..interventions.applied import CALL, Applied
from ..interventions.edit_checks import check_axes
from ..interventions.edits import Edit
from ..interventions.freeze import FrozenSite
from ..interventions.schedule import Schedule, ScheduleEdit
from ..runs.collector import Collector, Entry
from ..runs.reader import Reader
from ..runs.run import Run
from ..runs.weights import buffer_marks
from .batch_rows import BatchRows

ITERATION = ("iteration",)
BETWEEN = "between"
"""Marks a call between two calls of the body, whose iteration is determined after the pass."""


class LoopNames(Protocol):
    """A module with the names of its loop body and inner loops:
    `loopscope.wrapping.wrap_module.Wrapped`."""

    module: nn.Module
    body: list[str]
    inner: dict[str, str]
    clock: Clock
    body_receives_state: bool
    """Whether the body's first input is states[0], provided that nothing runs between its calls."""


class CallTracker:
    """Tracks one forward pass of a wrapped module."""

    def __init__(
        self,
        wrapped: LoopNames,
        modules: Mapping[str, nn.Module],
        collector: Collector,
        edits: Mapping[str, list[Edit]],
        *,
        schedule: Sequence[ScheduleEdit],
        count: int | None,
        rows: BatchRows | None = None,
    ) -> None:
        """
        Arguments:
            modules: the wrapped module's submodules by name.
            edits: by site.
            schedule: how often iterations run.
            count: the number of iterations; edits that count from the end need it.
            rows: tracks the rows of the batch.
        """
        self.rows = rows
        self.wrapped, self.modules, self.collector, self.edits = wrapped, modules, collector, edits
        self.clock, self.count = wrapped.clock, count
        self.times = {m.iteration + (count or 0) if m.iteration < 0 else m.iteration: m for m in schedule}
        self.unused = list(schedule)
        self.applied = Applied()
        self.done = 0
        """The number of completed iterations."""
        self.inside = False
        """Whether the body is running."""
        self.first_input: Tensor | None = None
        """The body's first input."""
        self.input_tensor: Tensor | None = None
        """The body's last input: the tensor object itself, which the body may overwrite."""
        self.last_input: Tensor | None = None
        """The value of the body's last input."""
        self.last_output: Tensor | None = None
        """The body's last output."""
        self.direct = True
        """Whether the input of every iteration was exactly the output of the one before."""
        self.inner_index = dict.fromkeys(wrapped.inner, 0)
        self.before = buffer_marks(wrapped.module)
        """The module's buffers before the pass."""

    def attach(self, hooks: TemporaryHooks) -> None:
        """Attach hooks to the body and the inner loops."""
        members = [self.modules[name] for name in self.wrapped.body]
        # Before the body's hooks, which may be on the same module.
        for axis, name in self.wrapped.inner.items():
            hooks.attach(self.modules[name], before=self._begin_inner(axis), after=self._end_inner(axis))
        if len(members) == 1 or _tied(members):
            for member in members:
                hooks.attach(member, before=self._begin, after=self._end(member))
        else:
            hooks.attach(members[0], before=self._begin)
            hooks.attach(members[-1], after=self._end(None))

    def _begin(self, args: Any, kwargs: Any) -> Any:
        if self.inside:  # the first part again, such as an inner loop at the start of an iteration
            return args, kwargs
        self.clock.set(("iteration", self.done))
        self.inside = True
        path = find_tensor((args, kwargs), self.last_output)
        if path is None:
            raise LoopscopeError(
                f"the body '{self.wrapped.body[0]}' must receive a floating-point tensor to have a state, "
                f"but its call {self.done} received none. Name the part that receives and returns the state."
            )
        value = new = get_at((args, kwargs), path)
        if self.rows is not None:
            self.collector.rows = self.rows.at(len(value))
            self.collector.batch = self.rows.batch
        if self.last_output is None:
            self.first_input = value
        if self.last_output is None and self.wrapped.body_receives_state:
            new = self.collector.take("state", ITERATION, (0,), self._edited("state", value, (0,)))
        elif self.last_output is not None and not _same(value, self.last_output):
            self.direct = False
        new = self._edited("core_in", new, (self.done,))
        new = self.collector.take("core_in", ITERATION, (self.done,), new)
        if new is not value:
            args, kwargs = put_at((args, kwargs), path, new)
        skipped = self.done in self.times and not self.times[self.done].times
        self.input_tensor, self.last_input = (
            new,
            new.clone() if skipped else new,
        )  # the body may overwrite its input
        return args, kwargs

    def _end(self, module: nn.Module | None) -> After:
        """The hook after the body's last part; `module` is that part if it is the whole body, so
        that it can be called again."""
        original = None if module is None else module.forward

        def end(args: Any, kwargs: Any, output: Any) -> Any:
            path = find_tensor(output, self.last_input)
            if path is None or self.last_input is None:
                raise LoopscopeError(
                    f"the body '{self.wrapped.body[-1]}' must return a floating-point tensor, but returned "
                    f"{type(output).__name__}. Name the part that receives and returns the state."
                )
            moment = self.times.get(self.done)
            for _ in range(1, 1 if moment is None else moment.times):
                location = find_tensor((args, kwargs), self.last_input)
                if original is None or location is None:
                    raise LoopscopeError(
                        f"{moment}: only a body that is one module can be repeated. Skip it, or wrap "
                        "another body."
                    )
                next_args, next_kwargs = put_at((args, kwargs), location, get_at(output, path))
                output = original(*next_args, **next_kwargs)
            value = new = get_at(output, path)
            if moment is not None:
                self.unused.remove(moment)
                new = new if moment.times else self.last_input
            new = self._edited("state", new, (self.done + 1,))
            if new is not value and value is self.input_tensor:
                value.copy_(new)  # it works in place, and its caller may not use what it returns
                new = value
            self.done += 1
            self.inside = False
            self.inner_index = dict.fromkeys(self.inner_index, 0)
            self.clock.set(("iteration", self.done))
            self.last_output = self.collector.take("state", ITERATION, (self.done,), new)
            return output if self.last_output is value else put_at(output, path, self.last_output)

        return end

    def _begin_inner(self, axis: str) -> Before:
        def before(args: Any, kwargs: Any) -> Any:
            self.clock.set(*(self._axes() or [("iteration", self.done)]), (axis, self.inner_index[axis]))
            return args, kwargs

        return before

    def _end_inner(self, axis: str) -> After:
        def after(args: Any, kwargs: Any, output: Any) -> Any:
            self.clock.set(*(axis_index for axis_index in self._axes() if axis_index[0] != axis))
            self.inner_index[axis] += 1
            return output

        return after

    def _axes(self) -> list[tuple[str, int]]:
        return list(zip(self.clock.axes, self.clock.index, strict=True))

    def site(self, name: str, recorded: bool) -> After:
        """The hook of a module: edit its output, and record it if `recorded`."""

        def after(args: Any, kwargs: Any, output: Any) -> Any:
            path = find_tensor(output, self._like())
            if path is None:
                return output
            value = get_at(output, path)
            loops, index = self.clock.axes, self.clock.index
            if not loops:  # before the first call of the body
                loops, index = ITERATION, (self.done,)
            new = self._edited(name, value, index, loops)
            if recorded:
                new = self.collector.take(name, loops if self.inside else (BETWEEN, *loops), index, new)
            return output if new is value else put_at(output, path, new)

        return after

    def _like(self) -> Tensor | None:
        return self.last_input if self.last_output is None else self.last_output

    def _edited(
        self, site: str, value: Tensor, index: tuple[int, ...], loops: tuple[str, ...] = ITERATION
    ) -> Tensor:
        counted = None if self.count is None else self.count + (site == "state")
        skipped = self.inside and self.done in self.times and not self.times[self.done].times
        if skipped and site != "state":
            return value  # what a skipped iteration computes is dropped
        edits = self.edits.get(site, ())
        if edits:
            loops, index = (*loops, CALL), (*index, self.applied.call(site, loops, index))
        for edit in edits:
            axes = axes_of(site, value, self._like())
            check_axes(edit, axes + loops)
            if edit.applies_at(loops, index, counted):
                value, before = edit.apply(value, axes), value
                if value is not before:  # else a freeze that only begins
                    self.applied.apply(edit, loops, index)
        return value

    @property
    def ragged(self) -> bool:
        """Whether the batch became smaller during the pass, so that its rows must be tracked."""
        sizes = {entry.value.shape[:1] for entry in self.collector.entries("core_in")}
        return self.rows is None and len(sizes) > 1

    def run(self, tokens: Any, output: Any) -> Run:
        """The recorded run, after the forward pass."""
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
        schedule = Schedule({t: moment.times for t, moment in self.times.items()}, {})
        self.applied.check(self.edits, self.done, requested=self.count, schedule=schedule)
        for site in self.collector.sites:
            self.collector.replace(site, _with_iterations(self.collector.entries(site), self.done))
        result = self.collector.finish(self.done)
        states = result.get("state")
        if not self.direct:
            for edit in self.edits.get("state", ()):
                if isinstance(edit, FrozenSite):
                    edit.check_start(1, self.done)  # states[0] is unknown, so nothing can be frozen at it
        if not self.direct and isinstance(states, States):
            # Something changes the state between two calls of the body, so states[0] is unknown.
            values = {index: value for index, value in states.items() if index[0] > 0}
            result["state"] = states.with_values(values, iteration_range=range(self.done + 1))
        detached = isinstance(output, Tensor) and not self.collector.grad
        return Run(
            tokens=tokens,
            iterations=self.done,
            sites=result,
            output=output.detach() if detached else output,
            origin={"body": self.wrapped.body, "inner": self.wrapped.inner},
            reader=Reader(
                self.wrapped.module, None, None, None, grad=self.collector.grad, before=self.before
            ),
        )


def _with_iterations(entries: list[Entry], done: int) -> list[Entry]:
    """Entries of one site, with each call between two calls of the body assigned to an iteration.

    A site that is first called before the body belongs to the next iteration; one that is first
    called after it belongs to the previous one. A site called between one pair of calls only is
    outside the loop.
    """
    between = [entry for entry in entries if entry.loops[:1] == (BETWEEN,)]
    result = [entry for entry in entries if entry.loops[:1] != (BETWEEN,)]
    gaps = {entry.index[0] for entry in between}
    outside = len(gaps) == 1 and all(len(entry.index) == 1 for entry in between) and (done > 1 or not result)
    for entry in between:
        t = entry.index[0] - (0 if 0 in gaps else 1)
        if outside or not 0 <= t < done:
            result.append(entry._replace(loops=(), index=()))
        else:
            result.append(entry._replace(loops=entry.loops[1:], index=(t, *entry.index[1:])))
    return result


def _tied(modules: Sequence[nn.Module]) -> bool:
    """Whether different modules share the storage of all their parameters."""
    # Parameters that are loaded for each call have no storage between calls.
    stores = [tuple(p.data_ptr() or id(p) for p in module.parameters()) for module in modules]
    return bool(stores[0]) and all(store == stores[0] for store in stores)


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other))
