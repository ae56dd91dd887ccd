"""wrap: give a module that repeats a part of itself an iteration axis.

    model = ls.wrap(module)                 # of a supported family: the four functions
    wrapped = ls.wrap(module, body="core")  # any other: a call of module.core is an iteration
    run = ls.record(wrapped, tokens)

With a body, the iteration is inferred from its calls. Modules called inside it belong to the
running iteration. A module called between two calls of the body belongs to the previous iteration
if it is first called after the body (a final norm), and to the next one if it is first called
before the body (an injection).
"""

from collections.abc import Mapping, Sequence
from typing import Any, overload

import torch
from torch import nn

from ..adapters import FAMILIES, adapter_for
from ..adapters.base import Adapter
from ..common.errors import LoopscopeError, nearest
from ..common.rng import generator_state, restore_generator
from ..core.copied import copied
from ..core.hooks import TemporaryHooks
from ..core.loop_index import Clock
from ..core.sites import Sites, modules_of, resolve
from ..core.turns import parts_of, running_pass
from ..interventions.counted_mean import with_mask
from ..interventions.edit_checks import AnyEdit, Edits, check_iterations, edit_list, expand_edits
from ..interventions.edits import Edit
from ..interventions.freeze import FrozenSite
from ..interventions.schedule import Swap, composed
from ..interventions.selectors import counts_from_end
from ..runs.collector import Collector
from ..runs.run import Run
from .batch_rows import BatchRows
from .call_tracker import CallTracker

LOOP_SITES = ("state", "core_in")
"""Sites of the loop itself rather than of one module."""


class Wrapped:
    """A module with a named loop body. Calling it calls the module; `record` gives its runs an
    iteration axis.

    Sites: every submodule's output by its name; `core_in`, the body's input; `state`, its output.
    `states[0]` is recorded only if nothing changes the state between two calls of the body: then it
    is the input of the first call.
    """

    body_receives_state = True

    def __init__(self, module: nn.Module, body: list[str], inner: dict[str, str]) -> None:
        self.module, self.body, self.inner = module, body, inner
        self.clock = Clock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def __repr__(self) -> str:
        body, inner = " then ".join(self.body), f", inner={self.inner}" if self.inner else ""
        return f"Wrapped {type(self.module).__name__}: one iteration is a call of {body}{inner}"


@overload
def wrap(module: nn.Module) -> Adapter:
    """The adapter of a module of a supported family."""


@overload
def wrap(module: nn.Module, *, body: str | Sequence[str], inner: Mapping[str, str] | None = None) -> Wrapped:
    """Any other module, recorded by its loop body."""


def wrap(
    module: nn.Module, *, body: str | Sequence[str] | None = None, inner: Mapping[str, str] | None = None
) -> Adapter | Wrapped:
    """Give a module that repeats a part of itself an iteration axis. The module is not changed.

    >>> run = ls.record(ls.wrap(module, body="core"), tokens)

    Arguments:
        module: any PyTorch module. For a supported family (`loopscope.adapters.FAMILIES`, by name
            of the class) nothing else is needed, and every analysis, lens and edit works on it.
        body: for any other, the name of the submodule that is called once per iteration, or of
            several that are called one after another; `loopscope.find_loops` suggests it. A
            ModuleList stands for its members. Members that share their parameters are an iteration
            each.
        inner: names for loops inside an iteration: {"low": "L_module"} counts the calls of
            `L_module` in each iteration.

    Raises:
        LoopscopeError: no supported family and no body; a name that is no submodule, with the
            nearest ones.
    """
    if isinstance(module, Adapter | Wrapped):
        raise LoopscopeError(
            f"wrap needs a module that isn't wrapped yet, but got {module!r}. Use it as it is."
        )
    if not isinstance(module, nn.Module):
        raise LoopscopeError(f"wrap needs a torch.nn.Module, but got {type(module).__name__}.")
    if body is None:
        adapter = adapter_for(module)
        if adapter is None or inner is not None:
            reason = "inner needs a body" if inner else f"its class is none of {', '.join(sorted(FAMILIES))}"
            raise LoopscopeError(
                f"wrap needs the name of the part of {type(module).__name__} that repeats, as {reason}, but "
                "body is None. See what repeats: print(ls.find_loops(model, tokens))."
            )
        return adapter
    modules = modules_of(module)
    names: list[str] = []
    for name in [body] if isinstance(body, str) else list(body):
        _check_module(name, modules, "body")
        listed = isinstance(modules[name], nn.ModuleList)
        names += [f"{name}.{child}" for child, _ in modules[name].named_children()] if listed else [name]
    if not names:
        raise LoopscopeError(
            f"body must name at least one module, but is {body!r}. Name the part that repeats."
        )
    for name in (inner or {}).values():
        _check_module(name, modules, "inner")
    return Wrapped(module, names, dict(inner or {}))


def record_wrapped(
    wrapped: Wrapped,
    tokens: Any,
    inputs: dict[str, Any],
    sites: Sites,
    *,
    edits: Sequence[AnyEdit],
    collector: Collector,
) -> Run:
    """`record` for a wrapped module: its own forward, with hooks.

    Arguments:
        edits: what `wrapped_edits` returned.
    """
    modules = modules_of(wrapped.module)
    values, schedule = expand_edits(edits, ())
    values = with_mask(values, wrapped.module, tokens, inputs)
    moments = [moment for moment in schedule if not isinstance(moment, Swap)]
    for moment in schedule:
        if isinstance(moment, Swap):
            raise LoopscopeError(
                f"{moment}: a module wrapped by its body runs its own loop, so an iteration can't receive "
                "another index. Swap in a model with the four functions."
            )
    all_sites = [*modules, *LOOP_SITES]
    wanted = [site for site in resolve(sites, all_sites, modules) if site not in LOOP_SITES]
    by_site: dict[str, list[Edit]] = {}
    for edit in values:
        by_site.setdefault(str(edit.site), []).append(edit)
    count = None
    if any(counts_from_end(edit.iteration) for edit in values) or any(
        place < 0 for edit in schedule for place in edit.iterations
    ):
        count = _count_iterations(wrapped, tokens, inputs)
        for edit in [*values, *schedule]:
            if isinstance(edit, FrozenSite):
                edit.check_start(0, count)
            else:
                state = isinstance(edit, Edit) and edit.site == "state"
                check_iterations(edit, 0, count if state else count - 1)
    composed(schedule, count or 0)  # refuses those that can't be combined
    before = generator_state()
    tracker = CallTracker(wrapped, modules, collector, by_site, schedule=moments, count=count)
    output = _run(tracker, wanted, tokens, inputs)
    if tracker.ragged:  # run again, tracking every operation that selects rows
        restore_generator(before)
        with BatchRows() as rows:
            tracker = CallTracker(
                wrapped, modules, collector.fresh(), by_site, schedule=moments, count=count, rows=rows
            )
            output = _run(tracker, wanted, tokens, inputs)
    return tracker.run(tokens, output)


def wrapped_edits(wrapped: Wrapped, edits: Edits) -> list[AnyEdit]:
    """The edits of a recording as a list, with one edit for each site that a pattern matches.

    Raises:
        LoopscopeError: something is no edit, or an edit's site doesn't exist.
    """
    modules = modules_of(wrapped.module)
    return edit_list(edits, modules, modules, others=LOOP_SITES)


def _run(tracker: CallTracker, wanted: Sequence[str], tokens: Any, inputs: dict[str, Any]) -> Any:
    """The output of the module's own forward, with the hooks of a tracker."""
    wrapped = tracker.wrapped
    with running_pass(parts_of(wrapped)), TemporaryHooks() as hooks:
        for site in dict.fromkeys([*wanted, *(site for site in tracker.edits if site not in LOOP_SITES)]):
            hooks.attach(tracker.modules[site], after=tracker.site(site, site in wanted))
        tracker.attach(hooks)  # last, so that the clock shows the iteration when the sites' hooks run
        wrapped.clock.set()
        tokens, inputs = copied(tokens), copied(inputs)  # the module may write into them
        output = wrapped.module(tokens, **inputs) if tokens is not None else wrapped.module(**inputs)
        wrapped.clock.set()
    return output


def _count_iterations(wrapped: Wrapped, tokens: Any, inputs: dict[str, Any]) -> int:
    """The number of iterations of a forward pass, by running one; the random state is restored."""
    from ..runs.keep import last

    with torch.random.fork_rng():
        return record_wrapped(
            wrapped, tokens, inputs, (), edits=(), collector=Collector(last(1), grad=False, careful=True)
        ).iterations


def _check_module(name: str, modules: dict[str, nn.Module], what: str) -> None:
    if name not in modules:
        raise LoopscopeError(
            f"{what} must name a submodule, but there is no {name!r}. {nearest(name, modules)}"
        )
