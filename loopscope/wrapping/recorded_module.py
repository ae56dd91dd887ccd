"""record_wrapped: record a module that is wrapped by its loop body, by its own forward with
hooks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..common.errors import LoopscopeError
from ..core.hooks import TemporaryHooks
from ..core.pattern_sites import listed, with_patterns
from ..core.preserved_state import preserved_state
from ..core.sites import Sites, is_state, modules_of, resolve
from ..core.turns import parts_of, running_pass
from ..interventions.counted_mean import with_mask
from ..interventions.edit_checks import AnyEdit, Edits, check_iterations, edit_list, expand_edits
from ..interventions.edits import Edit
from ..interventions.freeze import FrozenSite
from ..interventions.schedule import ScheduleEdit, Swap, composed
from ..interventions.selectors import counts_from_end
from ..runs.collector import Collector
from ..runs.keep import last
from ..runs.run import Run
from .batch_rows import BatchRows
from .body_state import BodyState
from .call_tracker import CallTracker
from .start_probe import StartProbe
from .wrap_module import LOOP_SITES, Wrapped


@dataclass(frozen=True)
class _Plan:
    """What happens in a pass."""

    modules: Mapping[str, nn.Module]
    recorded: Sequence[str]
    """The modules whose outputs are recorded."""
    edits: Mapping[str, list[Edit]]
    """By site."""
    schedule: Sequence[ScheduleEdit]
    count: int | None
    """The number of iterations, if an edit counts from the end."""


def record_wrapped(
    wrapped: Wrapped,
    tokens: Any,
    inputs: dict[str, Any],
    sites: Sites,
    *,
    edits: Sequence[AnyEdit],
    collector: Collector,
) -> Run:
    """`record` for a wrapped module: its own forward, with hooks. The module gets copies of the
    inputs, where it may write.

    It runs again if rows turn out to leave the batch, or if the state is another tensor than was
    assumed at first; and up to the end of the body's first call to see whether that depends on what
    it receives.

    Arguments:
        edits: what `wrapped_edits` returned.

    Raises:
        LoopscopeError: an unknown site, an edit that doesn't fit, or a body that isn't called as
            named.
    """
    args = () if tokens is None else (tokens,)
    probe = StartProbe(wrapped.module, wrapped.body, args, inputs)
    plan = _planned(wrapped, sites, edits, probe)
    rows: BatchRows | None = None
    tracker, output = _run(wrapped, plan, collector, probe)
    for _ in range(2):  # each reason to run again comes once
        last_pass = tracker.pass_seen
        moved = (
            last_pass is not None
            and wrapped.state.names is None
            and tracker.calls.done > 1
            and wrapped.state.learn(tracker.wiring, last_pass)
        )
        if not moved and not tracker.ragged:
            break
        rows = BatchRows() if rows is None and tracker.ragged else rows
        probe.before.restore()
        collector = collector.fresh()
        if rows is None:
            tracker, output = _run(wrapped, plan, collector, probe)
        else:
            rows = BatchRows()
            with rows:
                tracker, output = _run(wrapped, plan, collector, probe, rows)
    unknown = None
    if None in tracker.first.unknown(tracker.done):
        unknown = probe.unknown_start(tracker, wrapped.start_answers)
    return tracker.run(tokens, output, unknown)


def _planned(wrapped: Wrapped, sites: Sites, edits: Sequence[AnyEdit], probe: StartProbe) -> _Plan:
    modules, state = with_patterns(modules_of(wrapped.module)), wrapped.state
    values, schedule = expand_edits(edits, state.fields)
    args, inputs = probe.inputs()
    state.check_edits(values, schedule)
    values = with_mask(values, wrapped.module, args[0] if args else None, inputs)
    moments = [moment for moment in schedule if not isinstance(moment, Swap)]
    for moment in schedule:
        if isinstance(moment, Swap):
            raise LoopscopeError(
                f"{moment}: a module wrapped by its body runs its own loop, so an iteration can't receive "
                "another index. Swap in a model with the four functions."
            )
    alias = {f"state.{state.fields[0]}": "state"} if state.fields else {}
    loop_sites = [*state.sites, "core_in"]
    all_sites = [*modules, *loop_sites, *alias]
    wanted = [
        site for site in resolve(sites, all_sites, listed(modules)) if site not in [*loop_sites, *alias]
    ]
    by_site: dict[str, list[Edit]] = {}
    for edit in values:
        site = str(edit.site)
        by_site.setdefault(alias.get(site, site), []).append(edit)
        frozen = isinstance(edit, FrozenSite) and not edit.whole
        if frozen and state.fields and is_state(str(edit.site)):
            raise LoopscopeError(
                f"{edit}: other tensors of this state may be computed from its new value within a call of "
                "the body, so one alone can't be held. Skip the iteration, which holds all: ls.skip(t)."
            )
    count = None
    unlearnt = state.names is not None and state.known is None and None in state.names.targets
    from_end = any(counts_from_end(edit.iteration) for edit in values)
    if unlearnt or from_end or any(place < 0 for edit in schedule for place in edit.iterations):
        count = _rehearse(wrapped, modules, probe)
        for edit in [*values, *schedule]:
            if isinstance(edit, FrozenSite):
                edit.check_start(0, count)
            else:
                state = isinstance(edit, Edit) and is_state(str(edit.site))
                check_iterations(edit, 0, count if state else count - 1)
    composed(schedule, count or 0)  # refuses those that can't be combined
    return _Plan(modules, wanted, by_site, moments, count)


def wrapped_edits(wrapped: Wrapped, edits: Edits) -> list[AnyEdit]:
    """The edits of a recording as a list, with one edit for each site that a pattern matches.

    Raises:
        LoopscopeError: something is no edit, or an edit's site doesn't exist.
    """
    if isinstance(edits, tuple | list) and not edits:
        return []
    modules, fields = with_patterns(modules_of(wrapped.module)), wrapped.state.fields
    alias = {f"state.{fields[0]}": "state"} if fields else {}
    others = dict.fromkeys([*LOOP_SITES, *wrapped.state.sites])
    return edit_list(edits, modules, modules, alias=alias, others=others)


def carried_names(wrapped: Wrapped, tokens: Any, inputs: dict[str, Any]) -> list[Any]:
    """The arguments of the body that carry its state from one call to the next, by the names that
    `wrap` takes, if they are several; else nothing."""
    probe = StartProbe(wrapped.module, wrapped.body, () if tokens is None else (tokens,), inputs)
    with preserved_state(wrapped.module):
        plan, collector = _Plan(modules_of(wrapped.module), (), {}, (), None), Collector(last(1), grad=False)
        tracker, _ = _run(wrapped, plan, collector, probe, state=BodyState(None, wrapped.state.parameters))
    tracker.calls.check(wrapped.module)
    seen = tracker.pass_seen
    if seen is not None:
        tracker.state.learn(tracker.wiring, seen)
    others = tracker.state.others(tracker.wiring, seen)
    return [tracker.state.name(feed) for feed in (*tracker.state.feeds_of(seen), *others)] if others else []


def _run(
    wrapped: Wrapped,
    plan: _Plan,
    collector: Collector,
    probe: StartProbe,
    rows: BatchRows | None = None,
    state: BodyState | None = None,
) -> tuple[CallTracker, Any]:
    """The tracker of a pass, and the output of the module's own forward."""
    args, kwargs = probe.inputs()
    tracker = CallTracker(
        wrapped,
        plan.modules,
        collector,
        plan.edits,
        schedule=plan.schedule,
        count=plan.count,
        rows=rows,
        tokens=args[0] if args else None,
        state=state,
    )
    edited = (site for site in plan.edits if site not in LOOP_SITES and site in plan.modules)
    with running_pass(parts_of(wrapped)), TemporaryHooks() as hooks:
        for site in dict.fromkeys([*plan.recorded, *edited]):
            hooks.attach(plan.modules[site], after=tracker.site(site, site in plan.recorded))
        tracker.attach(hooks)  # last, so that the clock shows the iteration when the sites' hooks run
        wrapped.clock.set()
        try:
            output = wrapped.module(*args, **kwargs)
        finally:
            wrapped.clock.set()
    return tracker, output


def _rehearse(wrapped: Wrapped, modules: Mapping[str, nn.Module], probe: StartProbe) -> int:
    """The number of iterations of a pass, by running it once without a trace; where the state is
    received and returned is learnt from it."""
    plan = _Plan(modules, (), {}, (), None)
    with preserved_state(wrapped.module):
        tracker, _ = _run(wrapped, plan, Collector(last(1), grad=False), probe, state=BodyState())
    tracker.calls.check(wrapped.module)
    last_pass = tracker.pass_seen
    if last_pass is not None and wrapped.state.names is not None:
        wrapped.state.learn(tracker.wiring, last_pass)
    return tracker.done
