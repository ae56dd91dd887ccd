"""Whether the four functions, run one after the other, give what the model's own forward gives."""

from typing import Any

import torch
from torch import Tensor

from ..adapters.base import Adapter
from ..adapters.self_check import difference_of
from ..adapters.verification import mismatch_sentence
from ..common.errors import LoopscopeError
from ..core.copied import copied
from ..core.looped_model import Looped, step_at
from ..core.output_logits import find_logits
from ..core.state_tree import State, items
from ..runs.run import iterable_model
from ..wrapping.wrap_module import Wrapped
from .finding import Finding, failed, inapplicable, largest_difference, same
from .output_check import unsteady_output
from .result import Outcome
from .subject import Subject

_READ_OUT = "the read-out of the four functions and the model's own logits"


def four_functions(subject: Subject) -> Finding:
    """The read-out after the model's own depth; and every state, as it was recorded."""
    model = subject.model
    if isinstance(model, Adapter):
        return _of_adapter(subject, model)
    if unsteady := unsteady_output(subject):
        return unsteady
    if isinstance(model, Wrapped):
        return _by_substitution(subject)
    passed, logits = _by_hand(subject, model)
    theirs = find_logits(subject.output)
    if off := largest_difference(logits, theirs):
        return same(off, _READ_OUT)
    off = largest_difference(passed, _recorded(subject, passed))
    return same(off, f"{_READ_OUT}, and every state", "their states and the recorded ones differ")


def _of_adapter(subject: Subject, adapter: Adapter) -> Finding:
    subject.before.restore()
    pairs = adapter.comparison(copied(subject.tokens), subject.seed, **copied(subject.inputs))
    subject.before.restore()
    off = max(largest_difference(ours, theirs) for ours, theirs in pairs)
    differs = next((text for pair in pairs if (text := difference_of(*pair))), None)
    mismatch = adapter.mismatch or mismatch_sentence(adapter, differs)
    if mismatch is not None:
        return failed(mismatch, off)
    rounding = ", up to the rounding of this device and precision" if off else ""
    return Finding(Outcome.passed, off, f"{_READ_OUT}{rounding}")


def _by_substitution(subject: Subject) -> Finding:
    """Every step from the first recorded state on, and the read-out of the last one."""
    run = subject.run
    try:
        model: Any = iterable_model(run)
    except LoopscopeError as error:
        return inapplicable(str(error))
    subject.before.restore()
    first, context = run.states.iterations[0], run.reader.context
    with run.reader.as_recorded(draws=True), torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(subject.seed)
        states = [run.state(first)]
        for t in range(first, run.iterations):
            states.append(copied(step_at(model, states[-1], context, t)))  # a body may write into it
        answer = find_logits(model.answer_after(states[-1], context))
    theirs = _forward_logits(subject)
    off = largest_difference(states, [run.state(k) for k in range(first, run.iterations + 1)])
    if not off and theirs is not None:
        off = largest_difference(answer, theirs)
    return same(off, f"states and read-out of the four functions by substitution, from states[{first}] on")


def _forward_logits(subject: Subject) -> Any:
    """The logits of the module's own forward: of a head that was named, what it returns first after
    the loop."""
    wrapped, module = subject.model, subject.module
    if wrapped.names.head is None:
        return find_logits(subject.output)
    head = module.get_submodule(wrapped.names.head)
    calls = subject.watched([*(module.get_submodule(name) for name in wrapped.body), head]).calls
    last = max(place for place, call in enumerate(calls) if call.module is not head)
    after = [call.returned for call in calls[last + 1 :]]
    return (
        next((value for path, value in after[0].items() if path[:1] != ("argument",)), None)
        if after
        else None
    )


def _by_hand(subject: Subject, model: Looped) -> tuple[list[State], Tensor]:
    """The states and the last read-out of the four functions."""
    subject.before.restore()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(subject.seed)
        model.clock.set()
        encode: Any = model.encode
        context = encode(copied(subject.tokens), **copied(subject.inputs))
        states = [copied(model.initial(context))]
        for t in range(subject.run.iterations):
            states.append(copied(step_at(model, states[-1], context, t)))  # a body may write into it
        return states, model.decode(states[-1], context)


def _recorded(subject: Subject, passed: list[State]) -> list[State]:
    """The recorded states in the form of `passed`, which stand for those that are absent."""
    run, result = subject.run, []
    for k, state in enumerate(passed):
        parts = [run[site].get((k,)) for site in _sites(state)]
        parts = [
            own if part is None else part for part, own in zip(parts, items(state).values(), strict=True)
        ]
        result.append(parts[0] if isinstance(state, Tensor) else type(state)(*parts))
    return result


def _sites(state: State) -> list[str]:
    return ["state", *(f"state.{name}" for name in list(items(state))[1:])]
