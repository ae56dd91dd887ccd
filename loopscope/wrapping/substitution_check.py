"""Verification: whether a module's own forward, with its states substituted, gives these states and
its output again. A run asks when something is first computed from its states."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch

from ..adapters.forward_inputs import kind_of_inputs, kind_of_weights
from ..adapters.self_check import difference_of
from ..common.errors import LoopscopeError, LoopscopeWarning
from ..common.rng import generator_state, restore_generator
from ..core.copied import copied
from ..core.hooks import TemporaryHooks
from ..core.looped_model import step_at
from ..core.output_logits import find_logits
from ..core.preserved_state import preserved_state
from ..core.sites import modules_of
from ..runs.collector import Collector
from ..runs.keep import Keep
from ..runs.reader import Reader
from ..runs.run import Run
from .forward_questions import ends_with_logits, modules_between, reads_values
from .iterated import Context, Iterated
from .recorded_module import record_wrapped
from .unread_outputs import with_other_numbers

_MOST = 16
"""So many iterations are compared."""
_MORE = (
    "{}. Name all that is carried: ls.wrap(module, body=..., state=...). What the module itself adds to it "
    "between two calls, as in h + body(h), is carried too, and no call returns it: make a body of both"
)
_DRAWS = (
    "its iterations read random numbers, which are other ones when an iteration runs alone, so the state "
    "isn't all that an iteration reads"
)


def offer_iterations(reader: Reader, iterated: Iterated, run: Run) -> None:
    """Give a reader the four functions by substitution, if they are what the module does; else the
    sentence that says why not."""
    tokens, inputs = copied(run.tokens), copied(run.inputs)
    with reader.as_recorded(draws=True), torch.no_grad(), preserved_state(iterated.module):
        before = generator_state()
        try:
            context = iterated.encode(tokens, **inputs)
            mismatch = substitution_mismatch(iterated, tokens, inputs) or _of_run(iterated, context, run)
        except LoopscopeError as error:
            mismatch = str(error)
        except Exception as error:  # of the module, which doesn't stand being left or given a state
            mismatch = f"its forward fails with a state substituted ({type(error).__name__}: {error})"
        finally:
            restore_generator(before)
    if mismatch is None:
        iterated.own_count = iterated.depth_of(context, run)
        reader.offer(iterated, context, lambda state: iterated.decode(state, context), iterated.state_type)
    else:
        kind = type(iterated.module).__name__
        reader.refuse(
            f"this module was wrapped by its loop body alone, and {kind} can't be iterated on by "
            f"substitution: {mismatch.rstrip('.')}. run.output is what it returned after its last "
            "iteration, and what needs only what was recorded works."
        )


def substitution_mismatch(iterated: Iterated, tokens: Any, inputs: Mapping[str, Any]) -> str | None:
    """How substitution differs from the module's own pass, as a clause; None if it doesn't. Once
    for each kind of inputs."""
    weights = kind_of_weights(iterated.module)
    kind = (kind_of_inputs(iterated.module, tokens, inputs), weights)
    iterated.answers = {key: one for key, one in iterated.answers.items() if key[1] == weights}
    if kind in iterated.answers:
        mismatch, iterated.absent, iterated.ends_with_logits = iterated.answers[kind]
        return mismatch
    start = generator_state()
    collector = Collector(Keep(), False, True, careful=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoopscopeWarning)
        with _read_outs(iterated) as read_outs:
            plain = record_wrapped(iterated.wrapped, tokens, dict(inputs), (), edits=(), collector=collector)
    iterated.absent = plain.states.reasons.get(0)
    mismatch = None
    for iterated.writes in (False, True):
        restore_generator(start)
        context = iterated.encode(tokens, **inputs)
        context.form.count = plain.iterations
        mismatch = _difference(iterated, context, plain, read_outs)
        if mismatch is None or not context.form.first.in_place:
            break
    if mismatch is None:
        iterated.between = modules_between(iterated, context)
        iterated.decides = iterated.decides or reads_values(iterated, context)
        iterated.ends_with_logits = ends_with_logits(iterated, context, plain.output)
    iterated.answers[kind] = (mismatch, iterated.absent, iterated.ends_with_logits)
    return mismatch


@contextmanager
def _read_outs(iterated: Iterated) -> Iterator[list[Any]]:
    """What the head that was named returns after the latest call of the body."""
    modules, returned, latest = modules_of(iterated.module), list[Any](), list[Any]()

    def begin(args: Any, kwargs: Any, output: Any) -> Any:
        latest.clear()
        return output

    def keep(args: Any, kwargs: Any, output: Any) -> Any:
        latest.append(find_logits(output))
        returned[:] = latest  # a pass that is left after its first call of the body changes nothing
        return output

    with TemporaryHooks() as hooks:
        if iterated.names.head is not None:
            for name in iterated.wrapped.body:
                hooks.attach(modules[name], after=begin)
            hooks.attach(modules[iterated.names.head], after=keep)
        yield returned


def _difference(iterated: Iterated, context: Context, run: Run, read_outs: list[Any]) -> str | None:
    head, n, first = iterated.names.head, run.iterations, 0 if iterated.absent is None else 1
    if n == 2 and any(context.form.first.unread.values()) and _reads_further(iterated, context, run):
        return _MORE.format("iteration 1 reads what the one before returned besides this state")
    if any(states.rows for states in [run.states]):
        return "rows leave its batch during the loop"
    times = sorted({*range(first, n, max(1, n // _MOST)), n - 1}) if n > first else []
    for t in times:
        after = step_at(iterated, run.state(t), context, t)
        pairs = zip(_tensors(after), _tensors(run.state(t + 1)), strict=True)
        if any(difference_of(*pair) for pair in pairs):
            if context.form.draws:
                return _DRAWS
            return _MORE.format(
                f"iteration {t} from state {t} gives another state {t + 1} than its own pass, so an "
                "iteration reads more than this state"
            )
    expected = next(iter([find_logits(run.output)] if head is None else read_outs), None)
    if expected is None and head is None:
        return None  # nothing to compare; what needs logits says so
    answer: Any = find_logits(iterated.answer_after(run.state(n), context))
    if expected is None or not difference_of(answer, expected):
        return None
    if head is not None:
        return (
            f"what '{head}' returns with every state replaced by the last is another than in its own pass, "
            "so it reads more"
        )
    return (
        "its output with every state replaced by the last is another than its own, so it reads more. If one "
        "of its modules returns the logits of a single state, name it: ls.wrap(module, body=..., head=...)"
    )


def _reads_further(iterated: Iterated, context: Context, run: Run) -> bool:
    """Whether iteration 1 gives another state where iteration 0 returned other numbers besides its
    state."""
    form = copy(context.form)
    form.first = with_other_numbers(form.first)
    after = step_at(iterated, run.state(1), context._replace(form=form), 1)
    pairs = zip(_tensors(after), _tensors(run.state(2)), strict=True)
    return any(difference_of(*pair) is not None for pair in pairs)


def _of_run(iterated: Iterated, context: Context, run: Run) -> str | None:
    """Whether a random pass can be gone on with: only where no iteration reads what was drawn."""
    n = run.iterations
    whole = run.origin.get("whole", True) and not run.origin.get("edits")
    if not context.form.draws or not whole or not {n - 1, n} <= set(run.states.iterations) or n < 2:
        return None
    if "short" in run.origin:
        return "its pass draws random numbers, and states that are kept rounded don't show how they are used"
    after = step_at(iterated, run.state(n - 1), context, n - 1)
    if difference_of(_tensors(after)[0], run.states[n]):
        return _DRAWS
    return None


def _tensors(state: Any) -> list[Any]:
    return [state] if isinstance(state, torch.Tensor) else list(state)
