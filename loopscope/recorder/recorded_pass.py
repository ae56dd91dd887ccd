"""recorded_pass: drive a looped model with hooks at its sites, and make a Run of what they collect.
`record` and `resume` both end here."""

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError, LoopscopeWarning
from ..common.progress import tracked
from ..core.copied import copied
from ..core.looped_model import Context, Looped, unroll
from ..core.sites import Sites, is_state
from ..core.state_tree import State
from ..core.turns import parts_of, running_pass
from ..halting.halting_record import Halting
from ..interventions.edit_checks import AnyEdit
from ..interventions.update_sites import check_update_sites, state_field
from ..runs.collector import Collector
from ..runs.reader import Reader
from ..runs.run import Run
from ..runs.weight_digests import recorded_digest
from ..runs.weights import Marks
from .recording_plan import RecordingPlan, Span, plan_recording
from .site_hooks import SiteHooks


def recorded_pass(
    model: Looped,
    span: Span,
    sites: Sites,
    edits: Sequence[AnyEdit],
    *,
    collector: Collector,
    origin: dict[str, Any],
    before: Marks,
    stacklevel: int = 4,
) -> Run:
    """Run the iterations of a span and read out the last state.

    Arguments:
        sites: what to record besides the states.
        edits: what `edits_of` returned.
        collector: takes the recorded values.
        origin: the provenance of the run.
        before: the model's buffers before the pass.
        stacklevel: the caller that a warning is attributed to; 4 is who called record or resume,
            which are guarded.
    """
    plan = plan_recording(model, span, sites, edits)
    fields = plan.fields
    hooks = SiteHooks(model, plan, span.end, collector)
    hooked = hooks.attached(dict.fromkeys([*plan.recorded, *plan.edits]), plan.recorded)
    with running_pass(parts_of(model)), hooked, _truncation(model):
        passed = _iterated(model, span, plan)
    context, k, logits = passed.context, passed.iterations, passed.logits
    hooks.check_applied(k)
    frozen = [
        name for edit in plan.frozen_sites if not edit.whole and (name := state_field(edit.site, fields))
    ]
    if frozen and span.end > span.start:
        check_update_sites(model, frozen, passed.begin, context, t=span.start)
    values = collector.finish(k)
    if before:  # the pass may have changed a buffer, and the run goes on from its end
        origin["weights"] = recorded_digest(model)
    run = Run(
        tokens=span.tokens,
        inputs=span.inputs,
        iterations=k,
        sites={site: values[site] for site in sorted(values, key=lambda site: not is_state(site))},
        output=logits if collector.grad or not isinstance(logits, Tensor) else logits.detach(),
        origin=origin
        | collector.origin
        | {"fields": list(fields)}
        | ({"answers_early": True} if passed.early else {}),
        reader=_reader(hooks, context, type(passed.begin) if fields else None, before),
    )
    if collector.keep.everything and span.start == 0:
        run.halting = halting_record(model, run)
    warn_nonfinite(run, stacklevel=stacklevel)
    return run


class _Passed(NamedTuple):
    """A pass without its sites."""

    begin: State
    context: Context
    iterations: int
    """How many ran, those before the span included."""
    logits: Any
    """The model's answer; of a module without logits what it returned."""
    early: bool
    """Whether it isn't the read-out of the last state."""


def _iterated(model: Looped, span: Span, plan: RecordingPlan) -> _Passed:
    """Run the iterations of a span and read out the answer."""
    if span.begin is None:
        # the model may write into what it is given
        context = model.encode(copied(span.tokens), **copied(span.inputs))
        begin = model.initial(context)
    else:
        context, begin = span.begin
    steps = unroll(model, begin, context, span.end, start=span.start, **plan.schedule._asdict())
    steps = tracked(steps, "recording", span.end - span.start + 1)
    if not isinstance(model, Adapter) or not model.answers_early(context, span.end):
        k, state = deque(steps, maxlen=1).pop()
        answer = getattr(model, "answer_after", model.decode)  # of a module without logits
        return _Passed(begin, context, k, answer(state, context), early=False)
    states = [*span.earlier, *(state for _, state in steps)]
    logits = model.answer(states, context)
    model.clock.hidden = True  # the answer has passed the sites of the read-out
    try:
        with torch.no_grad():
            last = model.decode(states[-1], context)
    finally:
        model.clock.hidden = False
    return _Passed(begin, context, len(states) - 1, logits, early=not torch.equal(last, logits))


def _reader(hooks: SiteHooks, context: Context, state_type: type | None, before: Marks) -> Reader:
    """The reader of a run, with its edits of the read-out."""
    model, edits = hooks.model, hooks.plan.edits
    readout_sites = [
        site for site, several in edits.items() if any(edit.iteration is None for edit in several)
    ]
    edited = partial(hooks.attached, readout_sites)

    def decode(state: State) -> Tensor:
        with edited():
            return model.decode(state, context)

    grad, forms = hooks.collector.grad, hooks.collector.forms
    return Reader(model, context, decode, state_type, grad=grad, forms=forms, edited=edited, before=before)


def halting_record(model: Any, run: Run) -> Halting | None:
    """What the model records of its halting in a run; None if it doesn't halt."""
    return model.halting(run) if hasattr(model, "halting") else None


def changes_in_place(model: Any) -> bool:
    """Whether an activation may be changed in place after it was recorded: by a model that isn't of
    the zoo, or by hooks that others attached."""
    if isinstance(model, Adapter):
        return True
    return isinstance(model, nn.Module) and any(m._forward_hooks for m in model.modules())


def check_looped(model: Any) -> None:
    """Raise LoopscopeError if a model lacks the four functions."""
    if not isinstance(model, Looped):
        raise LoopscopeError(
            f"record needs a model with encode, initial, step and decode, but got {type(model).__name__}. "
            'Wrap any other module first: ls.wrap(model), or ls.wrap(model, body="...") with the part that '
            "repeats."
        )


def warn_nonfinite(run: Run, stacklevel: int) -> None:
    """Warn if the last state or the output holds NaN or infinity.

    Arguments:
        stacklevel: the caller that the warning is attributed to; 1 is the caller of this function.
    """
    last = run.states.get((run.iterations,))
    suspects = [
        value for value in (last, run.output) if isinstance(value, Tensor) and value.is_floating_point()
    ]
    if all(bool(torch.isfinite(value).all()) for value in suspects):
        return
    where = run.first_nonfinite()
    if where is not None:
        place = "outside the loop" if where[1] is None else f"from iteration {where[1]} on"
        text = f"'{where[0]}' holds NaN or infinity {place}."
        warnings.warn(text, LoopscopeWarning, stacklevel=stacklevel + 1)


@contextmanager
def _truncation(model: Any) -> Iterator[None]:
    """Gradients are truncated where a wrapped model's own forward truncates them."""
    if not isinstance(model, Adapter):
        yield
        return
    model.truncates_gradients = True
    try:
        yield
    finally:
        model.truncates_gradients = False
