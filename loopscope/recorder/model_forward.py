"""Recording a model of a known family from its own forward, where the four functions of its adapter
differ from it."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..adapters.base import Adapter
from ..adapters.self_check import refusal
from ..common.errors import LoopscopeError
from ..core.hooks import TemporaryHooks
from ..core.sites import Sites
from ..interventions.edit_checks import AnyEdit, expand_edits
from ..runs.collector import Collector
from ..runs.run import Run
from .pass_recorder import PassRecorder


def record_model_forward(
    adapter: Adapter,
    tokens: Any,
    inputs: Mapping[str, Any],
    iterations: int | None,
    sites: Sites,
    edits: Sequence[AnyEdit],
    *,
    collector: Collector,
    origin: Mapping[str, Any],
) -> Run:
    """One pass of the model's own forward, recorded at the calls that begin and end an iteration.

    Raises:
        LoopscopeError: the calls don't show the loop, an edit is of the schedule, or another number
            of iterations was asked for than the model runs.
    """
    assert adapter.mismatch is not None
    if expand_edits(edits, adapter.fields)[1]:
        raise LoopscopeError(
            f"iterations can't be skipped, repeated or swapped here: {refusal(adapter.mismatch)}"
        )
    runs: list[Run] = []
    try:
        recorder = PassRecorder(adapter, sites, edits, collector.keep, runs=runs, collector=collector)
        with TemporaryHooks() as hooks:
            hooks.attach(adapter.module, before=recorder.begin, after=recorder.end)
            try:
                output = adapter.logits_in(adapter(tokens, **inputs))
            finally:
                recorder.remove_hooks()
        if not runs:
            raise LoopscopeError("no call of its loop was seen.")
    except LoopscopeError as error:
        reason = refusal(adapter.mismatch)
        raise LoopscopeError(
            f"this model can't be recorded by its family's adapter: {error} {reason[0].upper()}{reason[1:]}"
        ) from error
    run = runs[0]
    if iterations is not None and iterations != run.iterations:
        raise LoopscopeError(
            f"iterations must be the model's own {run.iterations} here, but is {iterations}: "
            f"{refusal(adapter.mismatch)}"
        )
    run.tokens, run.inputs = tokens, dict(inputs)
    run = run.with_counted(None)
    run.output = output if collector.grad else output.detach()
    run.origin |= dict(origin) | {"mismatch": adapter.mismatch}
    return run
