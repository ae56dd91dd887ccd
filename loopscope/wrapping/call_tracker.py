"""CallTracker: infers the iteration from calls of the loop body in a module's own forward, and
records and edits the values at its sites."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..core.hooks import After, Before, TemporaryHooks
from ..core.loop_index import Clock
from ..core.sites import Path, find_tensor, float_tensors, get_at, put_at
from ..interventions.edits import Edit
from ..interventions.recomputation import check_not_recomputed
from ..interventions.schedule import ScheduleEdit
from ..runs.collector import Collector
from ..runs.run import Run
from ..runs.weights import buffer_marks
from .batch_rows import BatchRows
from .body_calls import BodyCalls
from .body_state import BodyState, SeenPass
from .edited_memory import Passed, follow_in_place
from .finished_pass import finished_run
from .first_state import FirstState
from .repetition import check_repeatable
from .site_calls import BETWEEN, SiteCalls
from .site_edits import ITERATION as ITERATION
from .site_edits import SiteEdits
from .state_axes import StateAxes
from .state_names import described
from .tensor_match import same_values
from .wiring import Feed, Wiring


class LoopNames(Protocol):
    """A module with the names of its loop body and inner loops:
    `loopscope.wrapping.wrap_module.Wrapped`."""

    module: nn.Module
    body: list[str]
    inner: dict[str, str]
    clock: Clock
    body_receives_state: bool
    """Whether the body's first input is states[0], provided that nothing runs between its calls."""
    alternating: bool
    """Whether each part of the body is an iteration by itself, whatever its weights."""

    @property
    def state(self) -> BodyState | None:
        """Where the body receives and returns the state; None: an adapter knows the state, and the
        body has its first field."""
        ...

    @property
    def axes(self) -> tuple[str, ...] | None:
        """The names of the state's axes; None: they are read from the module."""
        ...


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
        tokens: Any = None,
        state: BodyState | None = None,
    ) -> None:
        """
        Arguments:
            modules: the wrapped module's submodules by name.
            edits: by site.
            schedule: how often iterations run.
            count: the number of iterations; edits that count from the end need it.
            rows: tracks the rows of the batch.
            tokens: the module's input.
            state: where the state is, in place of what `wrapped` says.
        """
        self.rows, self.clock = rows, wrapped.clock
        self.wrapped, self.modules, self.collector, self.edits = wrapped, modules, collector, edits
        self.state = state or wrapped.state or BodyState()
        self.times = {m.iteration + (count or 0) if m.iteration < 0 else m.iteration: m for m in schedule}
        members = [modules[name] for name in wrapped.body]
        self.axes = StateAxes(wrapped.axes, members, tokens)
        collector.axes = self.axes.of
        self.site_edits = SiteEdits(edits, count=count, axes=self.axes)
        self.unused = list(schedule)
        self.calls = BodyCalls(wrapped.body, members, alternating=wrapped.alternating)
        self.sites = SiteCalls()
        self.wiring = Wiring()
        self.first = FirstState(bool(schedule or edits), len(self.state.sites), self.state.received_again)
        self.passed: list[Passed] = []
        """The tensors of the state that the running call received."""
        self.last: list[Tensor] = []
        """The state after the last iteration, copied: what the module does to it later is seen."""
        self.bypassed: list[Tensor | None] = []
        """What the body returned where an edit put something else."""
        self.last_output: Tensor | None = None
        """The body's last output."""
        self.pass_seen: SeenPass | None = None
        """What the last complete call received and returned, and took for the state."""
        self._inputs: Any = None
        self._sources: list[Path] = []
        self.before = buffer_marks(wrapped.module)
        """The module's buffers before the pass."""
        self._entered: dict[str, list[list[tuple[Tensor, Tensor]]]] = {}

    @property
    def done(self) -> int:
        """The number of completed iterations."""
        return self.calls.done

    @property
    def skipping(self) -> bool:
        """Whether the running iteration is skipped."""
        return self.done in self.times and not self.times[self.done].times

    def attach(self, hooks: TemporaryHooks) -> None:
        """Attach hooks to the body and the inner loops, after those of the sites."""
        for site in self.edits:
            if site in self.modules and not isinstance(self.modules[site], torch.jit.ScriptModule):
                hooks.attach(self.modules[site], before=self._enter_site(site))
        # Before the body's hooks, which may be on the same module.
        for axis, name in self.wrapped.inner.items():
            before, after = self.calls.inner_hooks(axis, self.clock)
            hooks.attach(self.modules[name], before=before, after=after)
        self.parts = self.state.watched(hooks, self.modules)
        self.calls.attach(hooks, self._begin, self._end)

    def _begin(self, args: Any, kwargs: Any) -> Any:
        done, inputs = self.done, (args, kwargs)
        self.clock.set(("iteration", done))
        self.wiring.receive(inputs)
        paths = self.state.sources(inputs, self.last_output)
        if not paths:
            raise LoopscopeError(
                f"the body '{self.wrapped.body[0]}' must receive a floating-point tensor to have a state, "
                f"but its call {done} received none. Name the part that receives and returns the state."
            )
        values = [get_at(inputs, path) for path in paths]
        if self.rows is not None:
            self.collector.rows = self.rows.at(len(values[0]))
            self.collector.batch = self.rows.batch
        copy: Tensor | None = None
        if not done:
            self.axes.see(values[0])
            self.first.begin(values, inputs)
        else:
            self._check_followed(values, inputs)
            copy = self.last[0] if self.first.compare(values, self.last)[0] else None
        self.passed = []
        for site, path, value in zip(self.state.sites, paths, values, strict=False):
            new = value
            if not done and self.wrapped.body_receives_state:
                new = self._edited(site, new, (0,))
                self.first.edited |= new is not value
                new = self.collector.take(site, ITERATION, (0,), new)
            if site == "state":
                new = new if self.skipping else self._edited("core_in", new, (done,))
                new = self.collector.take("core_in", ITERATION, (done,), new, copy if new is value else None)
            if new is not value:
                inputs = put_at(inputs, path, new)
            watched = bool(self.edits or self.times)
            self.passed.append(Passed(value, new, new.detach().clone() if watched else None))
        self._inputs, self._sources = inputs, paths
        return inputs

    def _check_followed(self, values: list[Tensor], inputs: Any) -> None:
        """Raise LoopscopeError if the module goes on from what the body returned, and not from what
        an edit put in its place."""
        for value, returned, edited in zip(values, self.bypassed, self.last, strict=True):
            kept = None if returned is None or same_values(value, edited) else returned
            if kept is not None and (same_values(value, kept) or self.first.repeated(inputs, edited)):
                raise LoopscopeError(
                    "an edit of the state must reach what comes after, but "
                    f"{type(self.wrapped.module).__name__} doesn't use what '{self.wrapped.body[-1]}' "
                    "returns: it keeps its state elsewhere. Edit 'core_in', which the body receives, or a "
                    "site inside it."
                )

    def _end(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        done = self.done
        if not done:
            self.first.end(output)
        moment = self.times.get(done)
        if moment is not None:
            output = self._repeated(module, moment, args, kwargs, output)
        self.wiring.give(output)
        paths = self.state.targets(output, self.passed[0].value)
        if not paths:
            raise LoopscopeError(
                f"the body '{self.wrapped.body[-1]}' must return a floating-point tensor, but returned "
                f"{described(output)}. Name the part that receives and returns the state."
            )
        feed = Feed(self._sources[0], paths[0])
        self.pass_seen = SeenPass(self._inputs, output, feed, self.first.constant)
        last, self.last, self.bypassed = self.last or self.first.inputs, [], []
        if moment is not None:
            self.unused.remove(moment)
            check_not_recomputed(moment)
            self.first.edited |= not (done or moment.times)
        for number, (site, path) in enumerate(zip(self.state.sites, paths, strict=False)):
            value = new = get_at(output, path)
            if moment is not None and not moment.times:
                new = last[number].clone()
            new = self._edited(site, new, (done + 1,))
            self.bypassed.append(None if new is value else value.detach().clone())
            new = follow_in_place(value, new, self.passed[number])
            new = self.collector.take(site, ITERATION, (done + 1,), new)
            self.last.append(self.collector.copy_of(new))
            if number == 0:
                self.last_output = new
            output = output if new is value else put_at(output, path, new)
        for site, value in self.parts.items():
            self.collector.take(site, ITERATION, (done + 1,), value)
        self.calls.finish()
        self.clock.set(("iteration", self.done))
        self.wiring.returned(output)
        return output

    def _repeated(self, module: nn.Module, moment: ScheduleEdit, args: Any, kwargs: Any, output: Any) -> Any:
        for _ in range(1, moment.times):
            check_repeatable(moment, self.calls, args, kwargs)
            targets = self.state.targets(output, self.passed[0].value)
            inputs = (args, kwargs)
            for source, target in zip(self._sources, targets, strict=False):
                inputs = put_at(inputs, source, get_at(output, target))
            with self.calls.unseen():
                output = module(*inputs[0], **inputs[1])
        return output

    def _enter_site(self, name: str) -> Before:
        def before(args: Any, kwargs: Any) -> Any:
            received = [(tensor, tensor.detach().clone()) for _, tensor in float_tensors((args, kwargs))]
            self._entered.setdefault(name, []).append(received)
            return args, kwargs

        return before

    def site(self, name: str, recorded: bool) -> After:
        """The hook of a module: edit its output, and record it if `recorded`."""

        def after(args: Any, kwargs: Any, output: Any) -> Any:
            entered = self._entered[name].pop() if self._entered.get(name) else []
            path = find_tensor(output, None if isinstance(output, Tensor) else self._like())
            if path is None:
                return output
            value = get_at(output, path) if path else output
            clock = self.clock
            if self.calls.inside:
                loops, index = clock.axes, clock.index
                at, place = index, loops
                self.sites.inside.add(name)
            else:
                loops, inner = clock.axes or ITERATION, clock.index[1:]
                index = (self.sites.iteration_between(name, self.done), *inner)
                at, place = (self.done, *inner), (BETWEEN, *loops)
            new, module = value, self.modules[name]
            # what a skipped iteration computes is dropped
            if name in self.edits and not (self.calls.inside and self.skipping):
                new = self.site_edits.apply(name, value, index, like=self._like(), loops=loops, module=module)
            if new is not value:
                for tensor, copy in entered:
                    new = follow_in_place(value, new, Passed(tensor, tensor, copy))
            if recorded:
                self.axes.modules[name] = module
                new = self.collector.take(name, place, at, new)
            return output if new is value else put_at(output, path, new)

        return after

    def _like(self) -> Tensor | None:
        return self.passed[0].value if self.last_output is None and self.passed else self.last_output

    def _edited(self, site: str, value: Tensor, index: tuple[int, ...]) -> Tensor:
        return self.site_edits.apply(site, value, index, like=self._like()) if self.edits else value

    @property
    def ragged(self) -> bool:
        """Whether the batch became smaller during the pass, so that its rows must be tracked."""
        sizes = {entry.value.shape[:1] for entry in self.collector.entries("core_in")}
        return self.rows is None and len(sizes) > 1

    def run(self, tokens: Any, output: Any, unknown_start: str | None = None) -> Run:
        """The recorded run, after the forward pass.

        Arguments:
            unknown_start: why states[0] isn't what the body received first, as a clause; None if
                nothing speaks against it.
        """
        return finished_run(self, tokens, output, unknown_start)
