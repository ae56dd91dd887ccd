"""record: run a looped model once and keep what happens between its iterations."""

import warnings
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError, LoopscopeWarning
from ..core.hooks import After, TemporaryHooks
from ..core.looped_model import Looped, checked_iterations, unroll
from ..core.sites import (
    Sites,
    axes_of,
    find_tensor,
    get_at,
    is_state,
    put_at,
    resolve,
    site_modules,
)
from ..core.state_tree import State
from ..core.states import States
from ..halting.halting_record import Halting
from ..interventions.edits import Edit, Several, Times, checked_places, checked_range, expanded
from ..interventions.freeze import Hold, checked_writes, field_of
from ..runs.collector import Collector
from ..runs.keep import Keep
from ..runs.reader import Reader
from ..runs.run import Run
from ..wrapping.wrap_module import Wrapped, record_wrapped
from .provenance import circumstances

Edits = Sequence[Edit | Times | Several]


def record(
    model: Any,
    tokens: Any,
    iterations: int | None = None,
    *,
    sites: Sites = (),
    edits: Edits = (),
    keep: Keep | None = None,
    grad: bool = False,
    seed: int | None = None,
    copy: bool | None = None,
    **inputs: Any,
) -> Run:
    """One forward pass with its states. The output is bitwise what the model gives without being
    recorded.

    Arguments:
        model: a zoo model, any model with the four functions, or what `wrap` made of another.
        tokens: (batch, position); for a wrapped module whatever its forward takes first.
        iterations: how many; None means the model's own depth. A module wrapped by its body decides
            by itself.
        sites: names, glob patterns, "all", or a predicate: what to record besides the states.
        edits: interventions made by patch, ablate, add, freeze, skip, repeat, swap, halt_at,
            bias_halting; several at one place in order.
        keep: what is kept of it all (`ls.keep`); None means everything.
        grad: keep the graph, so that `torch.autograd.grad(loss, run.states[3])` works. Otherwise
            runs under no_grad.
        seed: for models that draw (a random initial state, dropout); the global generator is left
            as it was. None: draw from the global generator, as the bare model does.
        copy: True copies every value, False never does; None copies where a reference would not do.
        inputs: further arguments of a wrapped module's forward.

    Raises:
        LoopscopeError: an unknown site, a patch that doesn't fit, tokens that aren't, iterations
            that don't exist.
    """
    if isinstance(model, Wrapped):
        _check_depth(iterations)
        collector = Collector(keep or Keep(), grad, copy, careful=True)
        with _mode(grad, seed):
            run = record_wrapped(model, tokens, inputs, sites, edits=edits, collector=collector)
        run.origin |= circumstances(model.module, edits, keep, seed)
        return _warned(run)
    _check_looped(model)
    _check_inputs(model, inputs)
    collector = Collector(keep or Keep(), grad, copy, careful=_is_careful(model))
    with _mode(grad, seed):
        model.clock.set()
        if iterations is None:
            iterations = model.depth(tokens, inputs) if isinstance(model, Adapter) else model.iterations
        n = checked_iterations(iterations)
        origin = circumstances(model, edits, keep, seed) | {"requested_iterations": n}
        return _drive(model, _Span(tokens, inputs, n), sites, edits, collector=collector, origin=origin)


def resume(
    model: Any,
    run: Run,
    iterations: int,
    *,
    start: int | None = None,
    sites: Sites = (),
    edits: Edits = (),
    seed: int | None = None,
) -> Run:
    """Go on with a run from any of its states: the result equals `record(model, tokens,
    iterations)`, bitwise.

    Arguments:
        iterations: of the whole result, those already run included.
        start: the state to go on from; None means the last. What the run has up to there is taken
            over, not computed.
        sites: what to record from there on besides the sites that the run has.
        edits: for the iterations that are run now, `state` at `start` included.
    """
    _check_looped(model)
    n = checked_iterations(iterations)
    k = run.states.iteration_at(run.iterations if start is None else start)
    if n < k:
        raise LoopscopeError(
            f"iterations counts the whole run, so it must be {k} or more to resume from state {k}, but is "
            f"{n}."
        )
    state = run.state(k)
    grad = run.reader.grad if run.has_model else False
    had = [
        name for name in run.names if "@" not in name and not is_state(name) and isinstance(run[name], States)
    ]
    modules = site_modules(model)
    more = resolve(sites, modules, list(getattr(model, "hook_dict", modules)))
    sites = list(dict.fromkeys([*had, *more]))
    collector = Collector(Keep(), grad, careful=_is_careful(model))
    with _mode(grad, seed):
        own = run.has_model and run.reader.model is model
        context = run.reader.context if own else model.encode(run.tokens, **run.inputs)
        origin = circumstances(model, edits, None, seed)
        made = {
            "requested_iterations": n,
            "resumed_at": k,
            "edits": [*run.origin.get("edits", []), *origin["edits"]],
        }
        span = _Span(run.tokens, run.inputs, n, k, (context, state))
        later = _drive(model, span, sites, edits, collector=collector, origin=origin | made)
    joined: dict[str, States | Tensor] = {name: run[name] for name in run.names}
    for name in later.names:
        new = later[name]
        if isinstance(new, States):
            # states[k] itself was passed through its site again, where an edit may have changed it.
            before = run[name].items() if name in run else ()
            old = {index: value for index, value in before if index[0] < k}
            joined[name] = States(name, old | dict(new.items()), new.axes, later.iterations + is_state(name))
    later = later.with_sites(joined)
    later.halting = _halting(model, later) if run.halting is not None else None
    return later


@dataclass(frozen=True)
class _Span:
    """What is run: of which inputs, from which state to which."""

    tokens: Any
    inputs: Mapping[str, Any]
    end: int
    start: int = 0
    begin: tuple[Any, Any] | None = None
    """The context and the state at `start`; None: the model makes them of the inputs."""


@dataclass(frozen=True)
class _Plan:
    """What happens at the sites and to the schedule of a span."""

    modules: Mapping[str, nn.Module]
    fields: tuple[str, ...]
    recorded: tuple[str, ...]
    edits: Mapping[str, Sequence[Edit]]
    """By site, in order."""
    times: Mapping[int, int]
    """By iteration, how often it runs."""
    numbers: Mapping[int, int]
    """By iteration, the number that it receives in place of its own."""


def _drive(
    model: Looped, span: _Span, sites: Sites, edits: Edits, *, collector: Collector, origin: dict[str, Any]
) -> Run:
    """The body of `record` and `resume`: taps on, driver on, read-out, and a Run of what was
    collected."""
    plan = _planned(model, span, sites, edits)
    fields = plan.fields
    taps = _SiteTaps(model, plan, span.end, collector)
    with taps.attached(dict.fromkeys([*plan.recorded, *plan.edits]), plan.recorded), _cutting(model):
        if span.begin is None:
            context = model.encode(span.tokens, **span.inputs)
            begin = model.initial(context)
        else:
            context, begin = span.begin
        passes = unroll(
            model, begin, context, span.end, start=span.start, times=plan.times, iteration_index=plan.numbers
        )
        k, state = deque(passes, maxlen=1).pop()
        logits = model.decode(state, context)
    taps.check_places()
    holds = [edit for several in plan.edits.values() for edit in several if isinstance(edit, Hold)]
    held = [name for edit in holds if (name := field_of(edit.site, fields))]
    if held and span.end > span.start:
        checked_writes(model, held, begin, context, t=span.start)
    values = collector.finish(k)
    outside = [
        site for site, several in plan.edits.items() if any(edit.iteration is None for edit in several)
    ]
    edited = partial(taps.attached, outside)

    def decode(state: State) -> Tensor:
        with edited():
            return model.decode(state, context)

    run = Run(
        tokens=span.tokens,
        inputs=span.inputs,
        iterations=k,
        sites={site: values[site] for site in sorted(values, key=lambda site: not is_state(site))},
        output=logits if collector.grad else logits.detach(),
        origin=origin | {"fields": list(fields)},
        reader=Reader(
            model, context, decode, type(state) if fields else None, grad=collector.grad, edited=edited
        ),
    )
    if collector.keep == Keep() and span.start == 0:
        run.halting = _halting(model, run)
    return _warned(run)


def _planned(model: Looped, span: _Span, sites: Sites, edits: Edits) -> _Plan:
    modules = site_modules(model)
    fields = _fields(model)
    hooks = list(getattr(model, "hook_dict", modules))
    alias = {f"state.{fields[0]}": "state"} if fields else {}
    values, schedule = expanded(edits, fields, getattr(model, "update_sites", None))
    forced = any(edit.site == "halting" for edit in values)
    if forced or sites == "halting" or (not callable(sites) and "halting" in sites):
        _check_halting(model, modules)
    wanted = resolve(sites, [*modules, *alias], hooks)
    by_site: dict[str, list[Edit]] = {}
    start, n = span.start, span.end
    for edit in values:
        site = alias.get(edit.site, resolve(edit.site, [*modules, *alias], [])[0])
        checked_range(edit, start, n if is_state(site) else n - 1)
        if isinstance(edit, Hold):
            edit.checked(start, n)
        by_site.setdefault(site, []).append(edit)
    for moment in schedule:
        checked_range(moment, start, n - 1)
    states = ["state", *(f"state.{name}" for name in fields[1:])]
    recorded = dict.fromkeys([*states, *(alias.get(s, s) for s in wanted), *["halting"] * forced])
    return _Plan(
        modules,
        fields,
        tuple(recorded),
        by_site,
        times={m.iteration % n: m.times for m in schedule if m.told is None},
        numbers={m.iteration % n: m.told % n for m in schedule if m.told is not None},
    )


class _SiteTaps:
    """Taps that edit and record what passes the sites."""

    def __init__(self, model: Looped, plan: _Plan, iterations: int, collector: Collector) -> None:
        self.model, self.plan, self.iterations, self.collector = model, plan, iterations, collector
        self._misplaced: dict[int, tuple[Edit, tuple[str, ...]]] = {}
        self._placed: set[int] = set()

    @contextmanager
    def attached(self, sites: Iterable[str], recorded: Container[str] = ()) -> Iterator[None]:
        with TemporaryHooks() as taps:
            for site in sites:
                taps.attach(self.plan.modules[site], after=self._after(site, site in recorded))
            yield

    def check_places(self) -> None:
        """Refuse an edit at axes that its site had in no call."""
        for number, (edit, axes) in self._misplaced.items():
            if number not in self._placed:
                checked_places(edit, axes)

    def _after(self, site: str, record_it: bool) -> After:
        edits = self.plan.edits.get(site, ())

        def after(args: Any, kwargs: Any, output: Any) -> Any:
            path = find_tensor(output, None if isinstance(output, Tensor) else self.collector.state)
            if path is None or self.model.clock.hidden:
                return output
            value = get_at(output, path)
            loops, index = self.model.clock.axes, self.model.clock.index
            new = self._edited(site, value, loops, index)
            if record_it:
                new = self.collector.take(site, loops, index, new)
            for edit in edits:
                if isinstance(edit, Hold):
                    edit.keep(new)  # what later edits made of it, and what gradients are taken at
            return output if new is value else put_at(output, path, new)

        return after

    def _edited(self, site: str, value: Tensor, loops: tuple[str, ...], index: tuple[int, ...]) -> Tensor:
        states = self.iterations + 1 if is_state(site) else self.iterations
        new = value
        for edit in self.plan.edits.get(site, ()):
            axes = axes_of(site, value, self.collector.state)
            if not all(name in axes + loops for name in edit.where):
                self._misplaced.setdefault(id(edit), (edit, axes + loops))
                continue  # one module may run inside an inner loop and outside it, as TRM's does
            self._placed.add(id(edit))
            if edit.hits(loops, index, states):
                new = edit.apply(new, axes)
        return new


@contextmanager
def _mode(grad: bool, seed: int | None) -> Iterator[None]:
    with torch.set_grad_enabled(grad):
        if seed is None:
            yield
            return
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield


@contextmanager
def _cutting(model: Any) -> Iterator[None]:
    """Gradients are cut where a model of others cuts them by itself."""
    if not isinstance(model, Adapter):
        yield
        return
    model.truncates_gradients = True
    try:
        yield
    finally:
        model.truncates_gradients = False


def _halting(model: Any, run: Run) -> Halting | None:
    return model.halting(run) if hasattr(model, "halting") else None


def _check_depth(iterations: int | None) -> None:
    if iterations is not None:
        raise LoopscopeError(
            "a module wrapped by its body decides its own number of iterations, but "
            f"iterations={iterations!r} was passed. Use the module's own argument for it, if it has one."
        )


def _check_inputs(model: Any, inputs: Mapping[str, Any]) -> None:
    if inputs and not isinstance(model, Adapter):
        raise LoopscopeError(
            f"a looped model takes tokens alone, but {sorted(inputs)} were passed too. Leave them out."
        )


def _check_looped(model: Any) -> None:
    if not isinstance(model, Looped):
        raise LoopscopeError(
            f"record needs a model with encode, initial, step and decode, but got {type(model).__name__}. "
            'Wrap any other module first: ls.wrap(model), or ls.wrap(model, body="...") with the part that '
            "repeats."
        )


def _fields(model: Any) -> tuple[str, ...]:
    """Names of the state's tensors, the primary one first; empty if the state is one tensor."""
    return tuple(getattr(model, "fields", ()))


def _check_halting(model: Any, modules: Mapping[str, nn.Module]) -> None:
    """Say so if a model has no unit that is asked in every iteration whether to halt."""
    if "halting" in modules:
        return
    asked = (
        "whose head judges the state after the pass and changes nothing in it. Move its threshold where it "
        "decides: "
        'ls.answer(model, tokens, rule="own", threshold=...)'
        if getattr(model, "rule", None) is not None
        else "which runs as many iterations as it is told. Give it a rule: ls.answer(model, tokens, "
        'rule="kl"), or '
        "record with iterations="
    )
    raise LoopscopeError(
        f"the site 'halting' needs a model that asks a unit in every iteration whether to halt, but got "
        f"{type(model).__name__}, {asked}."
    )


def _is_careful(model: Any) -> bool:
    """Whether activations may be changed in place after they were seen: by a model that isn't ours,
    and where others have attached hooks, as TransformerLens users do."""
    if isinstance(model, Adapter):
        return True
    return isinstance(model, nn.Module) and any(m._forward_hooks for m in model.modules())


def _warned(run: Run) -> Run:
    last = run.states.get((run.iterations,))
    suspects = [
        value for value in (last, run.output) if isinstance(value, Tensor) and value.is_floating_point()
    ]
    if not all(bool(torch.isfinite(value).all()) for value in suspects):
        where = run.first_nonfinite()
        if where is not None:
            place = "outside the loop" if where[1] is None else f"at iteration {where[1]}"
            warnings.warn(
                f"'{where[0]}' holds NaN or infinity from {place} on.", LoopscopeWarning, stacklevel=3
            )
    return run
