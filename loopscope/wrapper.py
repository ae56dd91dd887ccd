"""wrap: give any module that repeats a part of itself an iteration axis.

    wrapped = ls.wrap(module, body="core")            # one call of module.core is one iteration
    run = ls.record(wrapped, tokens)

The clock is inferred from the calls of the body. What is called inside it belongs to the iteration it is called in. What is
called between two calls of the body belongs to the iteration before if it is first called after the body, and to the
iteration after if it is first called before it (a norm that closes an iteration; an injection that opens one).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .clock import Clock
from .collector import Collector, Entry
from .edits import Edit, Times, checked_places, checked_range, expanded
from .errors import LoopscopeError, nearest
from .run import Reader, Run
from .sites import Sites, axes_of, find_tensor, get_at, modules_of, put_at, resolve
from .states import States
from .taps import Taps


class Wrapped:
    """A module with a named loop body. Calling it calls the module; `record` gives its runs an iteration axis.

    Sites: every module's output by the module's own name; `core_in`, what the body receives; `state`, what it gives.
    `states[0]` is known only where nothing comes between two calls of the body: then it is what the first call received.
    """

    def __init__(self, module: nn.Module, body: list[str], inner: dict[str, str]) -> None:
        self.module, self.body, self.inner = module, body, inner
        self.clock = Clock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def __repr__(self) -> str:
        inner = f", inner={self.inner}" if self.inner else ""
        return f"Wrapped {type(self.module).__name__}: one iteration is a call of {' then '.join(self.body)}{inner}"


def wrap(module: nn.Module, *, body: str | Sequence[str], inner: Mapping[str, str] | None = None) -> Wrapped:
    """Name the part of a module that repeats, so that it can be recorded and edited iteration by iteration.

    Arguments:
        module: any PyTorch module; it is not changed.
        body: the name of the submodule that is called once per iteration, or of several called one after another. A
            ModuleList stands for its members. Members that share their parameters are each an iteration.
        inner: names for loops inside an iteration: {"low": "L_module"} counts the calls of `L_module` in each.

    Raises:
        LoopscopeError: a name that is no submodule, with the nearest ones.
    """
    if not isinstance(module, nn.Module):
        raise LoopscopeError(f"wrap needs a torch.nn.Module, but got {type(module).__name__}.")
    modules = modules_of(module)
    names: list[str] = []
    for name in [body] if isinstance(body, str) else list(body):
        _check_module(name, modules, "body")
        listed = isinstance(modules[name], nn.ModuleList)
        names += [f"{name}.{child}" for child, _ in modules[name].named_children()] if listed else [name]
    if not names:
        raise LoopscopeError(f"body must name at least one module, but is {body!r}. Name the part that repeats.")
    for name in (inner or {}).values():
        _check_module(name, modules, "inner")
    return Wrapped(module, names, dict(inner or {}))


def record_wrapped(
    wrapped: Wrapped, tokens: Any, inputs: dict[str, Any], sites: Sites, edits: Sequence[Edit | Times], collector: Collector
) -> Run:
    """The recording of `record` for a wrapped module: its own forward, with taps on it."""
    modules = modules_of(wrapped.module)
    values, schedule = expanded(edits, ())
    wanted = [s for s in resolve(sites, [*modules, "state", "core_in"], modules) if s not in ("state", "core_in")]
    by_site: dict[str, list[Edit]] = {}
    for edit in values:
        by_site.setdefault(resolve(edit.site, [*modules, "state", "core_in"], [])[0], []).append(edit)
    count = None
    if any(_from_end(edit.iteration) for edit in [*values, *schedule]):
        count = _count_iterations(wrapped, tokens, inputs)
        for edit in values:
            checked_range(edit, 0, count if edit.site == "state" else count - 1)
    loop = _Loop(wrapped, modules, collector, by_site, schedule, count)
    with Taps() as taps:
        for site in dict.fromkeys([*wanted, *(s for s in by_site if s not in ("state", "core_in"))]):
            taps.on(modules[site], after=loop.site(site, site in wanted))
        loop.attach(taps)  # outermost, so that the clock shows the iteration while the sites are looked at
        wrapped.clock.show()
        output = wrapped.module(tokens, **inputs) if tokens is not None else wrapped.module(**inputs)
        wrapped.clock.show()
    return loop.run(tokens, output)


class _Loop:
    """Counts iterations from calls of the body, and records and edits what passes by."""

    def __init__(
        self,
        wrapped: Wrapped,
        modules: dict[str, nn.Module],
        collector: Collector,
        edits: dict[str, list[Edit]],
        schedule: list[Times],
        count: int | None,
    ) -> None:
        self.wrapped, self.modules, self.collector, self.edits, self.count = wrapped, modules, collector, edits, count
        self.times = {m.iteration + (count or 0) if m.iteration < 0 else m.iteration: m.times for m in schedule}
        self.unused = {str(edit) for group in edits.values() for edit in group} | {str(m) for m in schedule}
        self.edit_names = {str(edit): edit for group in edits.values() for edit in group}
        self.done = 0
        self.inside = False
        self.received: Tensor | None = None
        self.passed: Tensor | None = None
        self.gave: Tensor | None = None
        self.unmixed = True
        """Whether every iteration received exactly what the one before gave."""
        self.turns = dict.fromkeys(wrapped.inner, 0)

    def attach(self, taps: Taps) -> None:
        body = [self.modules[name] for name in self.wrapped.body]
        if len(body) > 1 and _tied(body):
            for module in body:
                taps.on(module, before=self._begin, after=self._end_of(module))
        else:
            taps.on(body[0], before=self._begin, after=self._end_of(body[0]) if len(body) == 1 else None)
            if len(body) > 1:
                taps.on(body[-1], after=self._end_of(None))
        for axis, name in self.wrapped.inner.items():
            taps.on(self.modules[name], before=self._turn(axis), after=self._turned(axis))

    def _begin(self, args: Any, kwargs: Any) -> Any:
        self.wrapped.clock.show(("iteration", self.done))
        self.inside = True
        path = find_tensor((args, kwargs), self.gave)
        if path is None:
            raise LoopscopeError(
                f"the body '{self.wrapped.body[0]}' must receive a floating-point tensor to have a state, but its call "
                f"{self.done} received none. Name the part that takes and gives the state."
            )
        value = get_at((args, kwargs), path)
        if self.gave is not None and not _same(value, self.gave):
            self.unmixed = False
        new = value
        if not self.done:
            new = self.collector.take("state", ("iteration",), (0,), self._edited("state", value, 0))
        new = self.collector.take("core_in", ("iteration",), (self.done,), self._edited("core_in", new, self.done))
        if new is not value:
            args, kwargs = put_at((args, kwargs), path, new)
        self.passed = new
        self.received = new.clone() if self.times.get(self.done) == 0 else new  # a body in place would overwrite it
        return args, kwargs

    def _end_of(self, module: nn.Module | None):
        original = module.forward if module is not None else None

        def end(args: Any, kwargs: Any, output: Any) -> Any:
            path = find_tensor(output, self.received)
            if path is None:
                raise LoopscopeError(
                    f"the body '{self.wrapped.body[-1]}' must give a floating-point tensor, but gave "
                    f"{type(output).__name__}. Name the part that takes and gives the state."
                )
            times = self.times.get(self.done, 1)
            if self.done in self.times:
                self.unused.discard(f"skip iteration {self.done}")
                self.unused -= {str(Times(t, n)) for t, n in self.times.items() if t == self.done}
            if times > 1 and original is None:
                raise LoopscopeError("an iteration can be repeated only if the body is one module. Skip, or wrap another body.")
            for _ in range(times - 1):
                where = find_tensor((args, kwargs), self.received)
                again, named = put_at((args, kwargs), where, get_at(output, path))
                output = original(*again, **named)
            value = get_at(output, path)
            new = self.received if times == 0 else value
            new = self._edited("state", new, self.done + 1)
            if new is not value and value is self.passed:
                value.copy_(new)  # the body works in place, and its caller may never look at what it returns
                new = value
            self.done += 1
            self.inside = False
            self.turns = dict.fromkeys(self.turns, 0)
            self.wrapped.clock.show(("iteration", self.done))
            self.gave = self.collector.take("state", ("iteration",), (self.done,), new)
            return output if self.gave is value else put_at(output, path, self.gave)

        return end

    def _turn(self, axis: str):
        def before(args: Any, kwargs: Any) -> Any:
            hands = list(zip(self.wrapped.clock.axes, self.wrapped.clock.index, strict=True)) or [("iteration", self.done)]
            self.wrapped.clock.show(*hands, (axis, self.turns[axis]))
            return args, kwargs

        return before

    def _turned(self, axis: str):
        def after(args: Any, kwargs: Any, output: Any) -> Any:
            hands = list(zip(self.wrapped.clock.axes, self.wrapped.clock.index, strict=True))
            self.wrapped.clock.show(*(hand for hand in hands if hand[0] != axis))
            self.turns[axis] += 1
            return output

        return after

    def site(self, name: str, record_it: bool):
        def after(args: Any, kwargs: Any, output: Any) -> Any:
            path = find_tensor(output, self.gave if self.gave is not None else self.received)
            if path is None:
                return output
            value = get_at(output, path)
            loops, index = self.wrapped.clock.axes, self.wrapped.clock.index
            if not loops:
                loops, index = ("iteration",), (self.done,)
            new = self._edited(name, value, index, loops)
            if record_it:
                new = self.collector.take(name, loops if self.inside else ("between", *loops), index, new)
            return output if new is value else put_at(output, path, new)

        return after

    def _edited(self, site: str, value: Tensor, index: Any, loops: tuple[str, ...] = ("iteration",)) -> Tensor:
        index = index if isinstance(index, tuple) else (index,)
        counted = None if self.count is None else self.count + (site == "state")
        for edit in self.edits.get(site, ()):
            axes = axes_of(site, value, self.gave if self.gave is not None else self.received)
            checked_places(edit, axes + loops)
            if edit.hits(loops, index, counted):
                self.unused.discard(str(edit))
                value = edit.apply(value, axes)
        return value

    def run(self, tokens: Any, output: Any) -> Run:
        """The Run of what was collected, once the forward pass is over."""
        if not self.done:
            raise LoopscopeError(
                f"the body {self.wrapped.body} must be called at least once, but this forward pass called it 0 times. "
                f"Name a part that runs: {', '.join(list(self.modules)[:8])} ..."
            )
        if self.unused:
            raise LoopscopeError(
                f"{sorted(self.unused)[0]} never applied: the loop ran {self.done} iterations (0..{self.done - 1}; states "
                f"0..{self.done}). Choose an iteration that runs."
            )
        for site in list(self.collector._entries):
            if site not in ("state", "core_in"):
                self.collector.replace(site, _assigned(self.collector.entries(site), self.done))
        found = self.collector.finish(self.done)
        states = found.get("state")
        if not self.unmixed and isinstance(states, States):  # what came before the first mixing was never seen
            values = {index: value for index, value in states.items() if index[0] > 0}
            found["state"] = States("state", values, states.axes, self.done + 1)
        kept = output
        if not self.collector.grad and isinstance(output, Tensor):
            kept = output.detach()
        reader = Reader(self.wrapped.module, None, None, None, self.collector.grad)
        return Run(tokens=tokens, iterations=self.done, sites=found, output=kept, origin={"body": self.wrapped.body}, read=reader)


def _assigned(entries: list[Entry], done: int) -> list[Entry]:
    """Entries of one site with the calls made between two calls of the body given to the iteration they belong to."""
    between = [e for e in entries if e.loops[0] == "between"]
    inside = [e for e in entries if e.loops[0] != "between"]
    if not between:
        return inside
    turns = {e.index[0] for e in between}
    if len(turns) == 1 and len(between[0].loops) == 2 and (done > 1 or not inside):
        return inside + [e._replace(loops=(), index=()) for e in between]  # before or after the loop, not in it
    opens = 0 in turns
    placed = []
    for e in between:
        t = e.index[0] if opens else e.index[0] - 1
        if 0 <= t < done:
            placed.append(e._replace(loops=e.loops[1:], index=(t, *e.index[1:])))
        else:
            placed.append(e._replace(loops=(), index=()))
    return inside + placed


def _count_iterations(wrapped: Wrapped, tokens: Any, inputs: dict[str, Any]) -> int:
    """How many iterations a forward pass runs, found by running one; the random generator is left as it was."""
    from .keep import last

    with torch.random.fork_rng():
        return record_wrapped(wrapped, tokens, inputs, (), (), Collector(last(1), grad=False)).iterations


def _from_end(iteration: Any) -> bool:
    if isinstance(iteration, slice):
        return any(bound is not None and bound < 0 for bound in (iteration.start, iteration.stop))
    numbers = [iteration] if isinstance(iteration, int) else list(iteration or ())
    return any(number < 0 for number in numbers)


def _tied(modules: list[nn.Module]) -> bool:
    """Whether different modules share the storage of all their parameters."""
    stores = [tuple(p.data_ptr() for p in module.parameters()) for module in modules]
    return bool(stores[0]) and all(store == stores[0] for store in stores)


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other))


def _check_module(name: str, modules: dict[str, nn.Module], what: str) -> None:
    if name not in modules:
        raise LoopscopeError(f"{what} must name a submodule, but there is no {name!r}. {nearest(name, modules)}")
