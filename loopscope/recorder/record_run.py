"""record: run a looped model once, and keep its states and sites."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..adapters.base import Adapter
from ..common.arguments import Count, FilePath, Seed
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..core.copied import copied
from ..core.looped_model import checked_iterations
from ..core.model_text import ModelInput, model_input
from ..core.sites import Sites
from ..interventions.edit_checks import AnyEdit, Edits
from ..runs.collector import Collector
from ..runs.keep import Keep
from ..runs.run import Run
from ..runs.weights import Marks
from ..wrapping.iterated import Iterated
from ..wrapping.recorded_module import record_wrapped, wrapped_edits
from ..wrapping.substitution_check import offer_iterations
from ..wrapping.wrap_module import Wrapped
from .checked_pass import checked_pass
from .disk_recording import begin, disk_store, stored
from .model_forward import record_model_forward
from .pass_settings import pass_settings
from .provenance import circumstances
from .recorded_pass import changes_in_place, check_looped, recorded_pass, warn_nonfinite
from .recording_plan import Span, edits_of
from .resume_run import resume


# It is long because its docstring explains twelve arguments.
@guarded
def record(
    model: Any,
    tokens: Any,
    iterations: Count | None = None,
    *,
    sites: Sites = (),
    edits: Edits = (),
    keep: Keep | None = None,
    grad: bool = False,
    seed: Seed | None = None,
    copy: bool | None = None,
    tokenizer: Any = None,
    count_special: bool = True,
    to: FilePath | None = None,
    **inputs: Any,
) -> Run:
    """One forward pass with its states. The output is bitwise what the model gives without being
    recorded.

    >>> model = ls.models.load("universal-prefix-parity")
    >>> batch = model.task.batch(64, seed=0)
    >>> run = ls.record(model, batch.tokens, iterations=32, sites=["core.0.attn.hook_pattern"])
    >>> run.states[3].shape                         # after 3 iterations
    torch.Size([64, 17, 64])

    Arguments:
        model: a zoo model, any model with the four functions, or what `wrap` returned.
        tokens: (batch, position), a tokenizer's output, or with `tokenizer` a text or a list of
            texts; of a wrapped module, its first argument. None with `inputs_embeds=`.
        iterations: None means the model's own depth.
        sites: names, glob patterns, "all", or a predicate: what to record besides the states.
        edits: interventions made by patch, ablate, add, steer, freeze, skip, repeat, swap,
            halt_at, bias_halting; one alone, or several. Those of one place apply in order.
        keep: which values to keep (`ls.keep`); None means all.
        grad: keep the graph, for `torch.autograd.grad(loss, run.states[3])`; else under no_grad.
        seed: for models that draw random numbers (an initial state, dropout); torch's generator is
            restored afterwards. None: draw from torch's generator, as the model itself does.
        copy: True copies every value, False none; None copies those that may change later.
        tokenizer: the model's own, of transformers. It reads texts, and pads where its
            padding_side says; the model gets the mask. It names tokens and positions in figures:
            the run keeps the strings, not the tokenizer.
        count_special: False: the tokenizer's special tokens (those that begin, end, separate or
            pad) don't count in pooled numbers, though the model reads them. Unknown and masked
            words count.
        to: a folder, where each value is written as soon as it is computed, so that a run may be
            larger than memory. It can be read by `load_run` even if the recording was killed: up to
            its last whole iteration. An unfinished run in the folder is replaced.
        inputs: further arguments of a wrapped module's forward. The model and the run have copies
            of them and of the tokens, so that nothing of the caller's is written to.

    Raises:
        LoopscopeError: an unknown site, an edit that doesn't fit or never applies, invalid tokens
            or texts, or an input that a model's adapter doesn't follow.

    The first recording through an adapter of `wrap`, for each kind of inputs, is compared with the
    model's own forward. If they differ, a LoopscopeWarning says how, and this and later runs are
    recorded from the model's own forward.
    """
    read = model_input(model, tokens, inputs, tokenizer, count_special=count_special)
    tokens, inputs = read.tokens, read.inputs
    model = model.wrapped if isinstance(model, Iterated) else model
    with disk_store(to, keep, grad) as store:
        if isinstance(model, Wrapped):
            n = count = None if iterations is None else checked_iterations(iterations)
            if n is not None and model.names.count is not None:
                inputs, n = inputs | {model.names.count: n}, None
            _check_module_pass(n, edits, to)
            collector = Collector(keep or Keep(), grad, copy, careful=True, store=store)
            run = _recorded_module(model, tokens, inputs, sites, wrapped_edits(model, edits), collector, seed)
            run.origin |= read.origin
            warn_nonfinite(run, stacklevel=3)  # who called record, which is guarded
            if n is None and count is not None:
                _check_count(model.names.count, count, run.iterations)
            run = _counted(run, read)
            if n is None or n == run.iterations:
                return stored(store, run)
            first = run.states.iterations[0]
            start = min(max(n, first), run.iterations)
            return resume(model, run, n, start=start, seed=seed)
        check_looped(model)
        _check_no_inputs(model, inputs)
        edited = edits_of(model, edits)
        collector = Collector(keep or Keep(), grad, copy, careful=changes_in_place(model), store=store)
        with pass_settings(model, grad, seed) as before:
            tokens, inputs = copied(tokens), copied(inputs)
            origin = circumstances(model, edited, keep, seed) | read.origin
            begin(store, tokens, inputs, {"origin": origin | _fields(model)})
            request = _Request(model, tokens, inputs, iterations, sites, edited, collector, origin, before)
            run = _adapted(request) if isinstance(model, Adapter) else _with_four_functions(request)
        return stored(store, _counted(run, read))


def _fields(model: Any) -> dict[str, Any]:
    return {"fields": list(getattr(model, "fields", ()))}


def _counted(run: Run, read: ModelInput) -> Run:
    """The run, without the special tokens in its pooled numbers if they don't count."""
    return run if read.special is None else run.with_counted(read.without_special(run.counted))


@dataclass(frozen=True)
class _Request:
    """What `record` was asked for."""

    model: Any
    tokens: Any
    inputs: Mapping[str, Any]
    iterations: int | None
    sites: Sites
    edits: Sequence[AnyEdit]
    collector: Collector
    origin: Mapping[str, Any]
    before: Marks
    """The model's buffers before the pass."""


def _with_four_functions(request: _Request, stacklevel: int = 5) -> Run:
    model, tokens, inputs = request.model, request.tokens, request.inputs
    model.clock.set()
    n = request.iterations
    if n is None:
        n = model.depth(tokens, inputs) if isinstance(model, Adapter) else model.iterations
    n = checked_iterations(n)
    return recorded_pass(
        model,
        Span(tokens, inputs, n),
        request.sites,
        request.edits,
        collector=request.collector.fresh(),
        origin=dict(request.origin) | {"requested_iterations": n},
        before=request.before,
        stacklevel=stacklevel,
    )


def _adapted(request: _Request) -> Run:
    """With the four functions, as long as they are what the model does."""
    model, tokens, inputs, edits = request.model, request.tokens, request.inputs, request.edits
    model.check_inputs(tokens, inputs)
    of_model = partial(record_model_forward, model, tokens, inputs, request.iterations, request.sites, edits)
    return checked_pass(
        model,
        tokens,
        inputs,
        partial(_with_four_functions, request, stacklevel=7),
        partial(of_model, collector=request.collector, origin=request.origin),
        plain=lambda: not edits and request.iterations in (None, model.depth(tokens, inputs)),
    )


def _recorded_module(
    model: Wrapped,
    tokens: Any,
    inputs: dict[str, Any],
    sites: Sites,
    edits: Sequence[AnyEdit],
    collector: Collector,
    seed: int | None,
) -> Run:
    """The run of a module wrapped by its body."""
    with pass_settings(model, collector.grad, seed):
        tokens, inputs = copied(tokens), copied(inputs)
        if collector.store is not None:
            about = circumstances(model.module, edits, collector.keep, seed) | {
                "body": model.body,
                "inner": model.inner,
                "fields": list(model.state.fields),
            }
            begin(collector.store, tokens, inputs, {"origin": about, "module_pass": True})
        run = record_wrapped(model, tokens, inputs, sites, edits=edits, collector=collector)
    run.origin |= circumstances(model.module, edits, collector.keep, seed)
    if model.names.head is not None:  # what the forward returns need not be what the head does
        run.origin["answers_early"] = True
    run.inputs |= inputs
    reader = run.reader
    reader.later = partial(offer_iterations, reader, model.iterated, run)
    return run


def _check_count(name: str | None, count: int, ran: int) -> None:
    """A loop may leave earlier than it is told, but not later."""
    if ran > count:
        raise LoopscopeError(
            f"count='{name}' must name the argument that is the number of iterations, but {name}={count} ran "
            f"{ran} of them. Leave count out, and pass what the forward takes: ls.record(model, tokens, "
            f"{name}={max(count - (ran - count), 0)})."
        )


def _check_module_pass(iterations: int | None, edits: Edits, to: Any) -> None:
    if iterations is not None and to is not None:
        raise LoopscopeError(
            "a module wrapped by its body runs its own number of iterations, and to= writes its own pass, "
            f"but iterations={iterations} was passed. Leave iterations out, and go on from there: "
            "ls.resume(model, run, iterations, to=...); or name the module's own argument: ls.wrap(..., "
            "count=...)."
        )
    if iterations is not None and edits:
        raise LoopscopeError(
            "a module wrapped by its body runs its own number of iterations, and edits are made in its own "
            f"pass, but iterations={iterations} was passed with edits. Leave iterations out and resume the "
            "run, or name the module's own argument: ls.wrap(..., count=...)."
        )


def _check_no_inputs(model: Any, inputs: Mapping[str, Any]) -> None:
    if inputs and not isinstance(model, Adapter):
        raise LoopscopeError(
            f"a looped model takes tokens alone, but {sorted(inputs)} were passed too. Leave them out."
        )
