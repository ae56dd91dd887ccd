"""wrap: give any module that repeats a part of itself an iteration axis.

    model = ls.wrap(module)                           # of a known family: the four functions, as a zoo model has them
    wrapped = ls.wrap(module, body="core")            # any other: one call of module.core is one iteration
    run = ls.record(wrapped, tokens)

With a body the clock is inferred from its calls. What is called inside it belongs to the iteration
it is called in. What is called between two calls of the body belongs to the iteration before if it
is first called after the body, and to the iteration after if it is first called before it (a norm
that closes an iteration; an injection that opens one).
"""

from collections.abc import Mapping, Sequence
from typing import Any, overload

import torch
from torch import nn

from ..adapters import FAMILIES, adapter_for
from ..adapters.base import Adapter
from ..common.errors import LoopscopeError, nearest
from ..common.rng import generator_state, restore_generator
from ..core.hooks import TemporaryHooks
from ..core.loop_index import Clock
from ..core.sites import Sites, modules_of, resolve
from ..interventions.edit_checks import Edits, check_iterations, expand_edits
from ..interventions.edits import Edit
from ..runs.collector import Collector
from ..runs.run import Run
from .batch_rows import Rows
from .call_tracker import Body

LOOP_SITES = ("state", "core_in")
"""Sites of the loop itself rather than of one module."""


class Wrapped:
    """A module with a named loop body. Calling it calls the module; `record` gives its runs an
    iteration axis.

    Sites: every module's output by the module's own name; `core_in`, what the body receives;
    `state`, what it gives. `states[0]` is known only where nothing comes between two calls of the
    body: then it is what the first call received.
    """

    body_receives_state = True

    def __init__(self, module: nn.Module, body: list[str], inner: dict[str, str]) -> None:
        self.module, self.body, self.inner = module, body, inner
        self.clock = Clock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def __repr__(self) -> str:
        inner = f", inner={self.inner}" if self.inner else ""
        return f"Wrapped {type(self.module).__name__}: one iteration is a call of {' then '.join(self.body)}{inner}"


@overload
def wrap(module: nn.Module) -> Adapter: ...
@overload
def wrap(
    module: nn.Module, *, body: str | Sequence[str], inner: Mapping[str, str] | None = None
) -> Wrapped: ...
def wrap(
    module: nn.Module, *, body: str | Sequence[str] | None = None, inner: Mapping[str, str] | None = None
) -> Adapter | Wrapped:
    """Give a module that repeats a part of itself an iteration axis. The module is not changed.

    Arguments:
        module: any PyTorch module. Of a known family (`loopscope.adapters.FAMILIES`, by the name of
            its class) it needs no hint, and every analysis, lens and edit works on it.
        body: for any other, the name of the submodule that is called once per iteration, or of
            several called one after another; `loopscope.find_loops` suggests it. A ModuleList
            stands for its members. Members that share their parameters are each an iteration.
        inner: names for loops inside an iteration: {"low": "L_module"} counts the calls of
            `L_module` in each.

    Raises:
        LoopscopeError: no known family and no body; a name that is no submodule, with the nearest
            ones.
    """
    if isinstance(module, Adapter | Wrapped):
        raise LoopscopeError(
            f"wrap needs a module that isn't wrapped yet, but got {module!r}. Use it as it is."
        )
    if not isinstance(module, nn.Module):
        raise LoopscopeError(f"wrap needs a torch.nn.Module, but got {type(module).__name__}.")
    if body is None:
        known = adapter_for(module)
        if known is None or inner is not None:
            raise LoopscopeError(
                f"wrap must be told which part of {type(module).__name__} repeats, as it is of no known "
                "family "
                f"({', '.join(sorted(FAMILIES))}){' or has inner loops of your own' if inner else ''}, but "
                "body is None. See what repeats: print(ls.find_loops(model, tokens))."
            )
        return known
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
    edits: Edits,
    collector: Collector,
) -> Run:
    """The recording of `record` for a wrapped module: its own forward, with taps on it."""
    modules = modules_of(wrapped.module)
    values, schedule = expand_edits(edits, ())
    for moment in schedule:
        if moment.iteration_index is not None:
            raise LoopscopeError(
                f"{moment}: a module wrapped by its body counts its iterations itself, so none can be told "
                "another number. Swap in a model with the four functions."
            )
    known = [*modules, *LOOP_SITES]
    wanted = [site for site in resolve(sites, known, modules) if site not in LOOP_SITES]
    by_site: dict[str, list[Edit]] = {}
    for edit in values:
        by_site.setdefault(resolve(edit.site, known, [])[0], []).append(edit)
    count = None
    if any(_from_end(edit.iteration) for edit in [*values, *schedule]):
        count = _count_iterations(wrapped, tokens, inputs)
        for edit in [*values, *schedule]:
            check_iterations(edit, 0, count if isinstance(edit, Edit) and edit.site == "state" else count - 1)
    before = generator_state()
    body = Body(wrapped, modules, collector, by_site, schedule=schedule, count=count)
    output = _run(body, wanted, tokens, inputs)
    if body.ragged:  # once more, with an eye on every operation that picks rows
        restore_generator(before)
        with Rows() as rows:
            body = Body(
                wrapped, modules, collector.fresh(), by_site, schedule=schedule, count=count, rows=rows
            )
            output = _run(body, wanted, tokens, inputs)
    return body.run(tokens, output)


def _run(body: Body, wanted: Sequence[str], tokens: Any, inputs: dict[str, Any]) -> Any:
    """The module's own forward, with a body on it."""
    wrapped = body.wrapped
    with TemporaryHooks() as taps:
        for site in dict.fromkeys([*wanted, *(site for site in body.edits if site not in LOOP_SITES)]):
            taps.attach(body.modules[site], after=body.site(site, site in wanted))
        body.attach(taps)  # outermost, so that the clock shows the iteration while the sites are looked at
        wrapped.clock.set()
        output = wrapped.module(tokens, **inputs) if tokens is not None else wrapped.module(**inputs)
        wrapped.clock.set()
    return output


def _count_iterations(wrapped: Wrapped, tokens: Any, inputs: dict[str, Any]) -> int:
    """How many iterations a forward pass runs, found by running one; the random generator is left
    as it was."""
    from ..runs.keep import last

    with torch.random.fork_rng():
        return record_wrapped(
            wrapped, tokens, inputs, (), edits=(), collector=Collector(last(1), grad=False)
        ).iterations


def _from_end(iteration: Any) -> bool:
    if isinstance(iteration, slice):
        return any(bound is not None and bound < 0 for bound in (iteration.start, iteration.stop))
    numbers = [iteration] if isinstance(iteration, int) else list(iteration or ())
    return any(number < 0 for number in numbers)


def _check_module(name: str, modules: dict[str, nn.Module], what: str) -> None:
    if name not in modules:
        raise LoopscopeError(
            f"{what} must name a submodule, but there is no {name!r}. {nearest(name, modules)}"
        )
