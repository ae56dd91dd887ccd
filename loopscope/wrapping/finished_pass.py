"""A tracked pass that is over: what is refused, what is known of its first state, and its Run."""

import warnings
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..common.caller import users_stacklevel
from ..common.errors import LoopscopeError, LoopscopeWarning
from ..core.lazy_values import chosen
from ..core.sites import is_state
from ..core.states import States
from ..interventions.edits import Edit
from ..interventions.freeze import FrozenSite
from ..interventions.schedule import Schedule, ScheduleEdit
from ..runs.reader import Reader
from ..runs.run import Run
from .site_calls import with_iterations

if TYPE_CHECKING:
    from .call_tracker import CallTracker


def finished_run(tracker: "CallTracker", tokens: Any, output: Any, unknown_start: str | None) -> Run:
    """The recorded run of a pass that is over.

    Raises:
        LoopscopeError: the body wasn't called as named, or an edit can't mean what it says.
    """
    wrapped, collector, done = tracker.wrapped, tracker.collector, tracker.done
    tracker.calls.check(wrapped.module)
    _check_used(tracker)
    if tracker.calls.incomplete is not None:
        warnings.warn(tracker.calls.incomplete, LoopscopeWarning, stacklevel=users_stacklevel())
    unknown = [reason or unknown_start for reason in tracker.first.unknown(done)]
    if wrapped.state is not None:
        _check_start(tracker, unknown)
        _check_carried(tracker)
    skipped = {t for t, moment in tracker.times.items() if not moment.times}
    for site in collector.sites:
        entries = with_iterations(collector.entries(site), done, done - 1 + is_state(site))
        if not is_state(site):
            entries = [entry for entry in entries if not entry.index or entry.index[0] not in skipped]
        collector.replace(site, entries)
    result = collector.finish(done)
    if unknown_start is not None and isinstance(states := result.get("core_in"), States):
        result["core_in"] = without_first(states, unknown_start)
    if wrapped.body_receives_state:
        for site, reason in zip(tracker.state.sites, unknown, strict=True):
            states = result.get(site)
            if reason is not None and isinstance(states, States):
                result[site] = without_first(states, reason)
    detached = isinstance(output, Tensor) and not collector.grad
    fields = {"fields": list(tracker.state.fields)} if tracker.state.fields else {}
    return Run(
        tokens=tokens,
        iterations=done,
        sites=result,
        output=output.detach() if detached else output,
        origin={"body": wrapped.body, "inner": wrapped.inner} | fields | collector.origin,
        reader=Reader(
            wrapped.module,
            None,
            None,
            None,
            grad=collector.grad,
            forms=collector.forms,
            before=tracker.before,
        ),
    )


def without_first(states: States, reason: str) -> States:
    """A site without its value at iteration 0, which isn't known.

    Arguments:
        reason: why, as a clause.
    """
    values = chosen(states.by_index, lambda index: index[0] > 0)
    return States(
        states.name,
        values,
        states.axes,
        range(max(states.iteration_range.stop, 1)),
        rows={index: rows for index, rows in states.rows.items() if index in values},
        without_grad=[index for index in states.without_grad if index in values],
        reasons=states.reasons | {0: reason},
    )


def _check_used(tracker: "CallTracker") -> None:
    """Raise LoopscopeError if an edit applied nowhere, at a call that belongs to no iteration, or
    to an iteration that can't be repeated."""
    done = tracker.done
    beyond = [edit for edit, t in tracker.site_edits.latest if t >= done + is_state(str(edit.site))]
    unapplied = [*tracker.unused, *beyond]
    if unapplied:
        raise LoopscopeError(
            f"{unapplied[0]} never applied: the loop ran {done} iterations "
            f"(0..{done - 1}; states 0..{done}). Choose an iteration that runs."
        )
    schedule = Schedule({t: moment.times for t, moment in tracker.times.items()}, {})
    tracker.site_edits.applied.check(
        tracker.edits, done, requested=tracker.site_edits.count, schedule=schedule
    )
    reason = next((reason for reason in tracker.first.unknown(done) if reason is not None), None)
    repeated = [moment for moment in tracker.times.values() if moment.times > 1]
    if repeated and reason is not None:
        raise LoopscopeError(
            f"{repeated[0]}: an iteration of this loop can't be repeated: {reason}. That would be left out. "
            "Wrap a body with all that an iteration does."
        )
    for site, edits in tracker.edits.items():
        for edit in edits:
            if site in tracker.modules and edit.iteration is not None and tracker.sites.outside(site, done):
                raise LoopscopeError(
                    f"{edit}: '{site}' is called outside the loop, where there is no iteration. Leave "
                    "iteration= out to edit it there, or edit a site inside the loop."
                )


def _check_start(tracker: "CallTracker", unknown: list[str | None]) -> None:
    """Raise LoopscopeError if states[0] was edited, or held, where it isn't known."""
    reason = next((reason for reason in unknown if reason is not None), None)
    if reason is None:
        return
    for edit in tracker.edits.get("state", ()):
        if isinstance(edit, FrozenSite):
            edit.check_start(1, tracker.done)
    if tracker.first.edited:
        edits: list[Edit | ScheduleEdit] = [
            *(edit for site in tracker.state.sites for edit in tracker.edits.get(site, ())),
            *tracker.times.values(),
        ]
        raise LoopscopeError(
            f"{edits[0]}: states[0] must be known to be edited, but isn't: {reason}. Edit a later state, "
            "such as iteration=slice(1, None), or 'core_in', which is what the body receives."
        )


def _check_carried(tracker: "CallTracker") -> None:
    """Warn if the body carries more tensors than the state has, and refuse what would move only a
    part of them."""
    others = tracker.state.others(tracker.wiring, tracker.pass_seen)
    if not others:
        return
    state = tracker.state
    body, words = tracker.wrapped.body, [state.text(feed) for feed in others]
    moves: list[Any] = [
        *tracker.times.values(),
        *(
            edit
            for site in state.sites
            for edit in tracker.edits.get(site, ())
            if edit.action == "patch" and state.names is None
        ),
    ]
    first, *_ = names = [state.name(feed) for feed in (*state.feeds_of(tracker.pass_seen), *others)]
    advice = f"Name all: ls.wrap(module, body=..., state={tuple(names)!r})"
    if moves:
        raise LoopscopeError(
            f"{moves[0]}: it must move the whole state, but the body {body} carries more from call to call "
            f"than '{first}': {' and '.join(words)}. {advice}, and patch with run.state(k); or name the one "
            "that is meant."
        )
    if state.names is None:
        text = (
            f"the body {body} carries {len(others) + 1} tensors from one call to the next, but only "
            f"'{first}' is recorded as the state; not {' and '.join(words)}. {advice}, or the one that is "
            "meant."
        )
        warnings.warn(text, LoopscopeWarning, stacklevel=users_stacklevel())
