"""select_examples: the run of some of a run's examples."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.states import States
from ..runs.output_logits import output_logits
from ..runs.reader import Reader
from ..runs.run import Run, iterable_model


def select_examples(run: Run, rows: Sequence[int]) -> Run:
    """The run of these examples alone, in this order, without running the model's loop again.

    Arguments:
        rows: numbers of examples; one may occur several times.

    Raises:
        LoopscopeError: the run has edits (which may be of other rows), or its model can't be
            iterated.
    """
    if run.origin.get("edits"):
        raise LoopscopeError(
            f"examples can be taken from a run without edits, but this one has {run.origin['edits']}, which "
            "may be of other examples. Record with the examples that you want."
        )
    model, rows = iterable_model(run), [int(row) for row in rows]
    tokens, inputs = run.select_inputs(rows)
    sites: dict[str, States | Tensor] = {}
    for name in run.names:
        site = run[name]
        if isinstance(site, States):
            sites[name] = site.at(batch=rows) if "batch" in site.axes else site
        else:
            sites[name] = site[rows] if len(site) == len(run.tokens) else site
    with run.reader.as_recorded(), torch.no_grad():
        context = model.encode(tokens, **inputs)
        reader = Reader(
            model,
            context,
            lambda state: model.decode(state, context),
            run.reader.state_type,
            grad=run.reader.grad,
            forms=run.reader.forms,
        )
    logits = output_logits(run)  # of an output with several values, all that analyses read
    result = Run(
        tokens=tokens,
        inputs=inputs,
        iterations=run.iterations,
        sites=sites,
        output=None if logits is None else logits[rows],
        origin=run.origin,
        counted=replace(run.counted, mask=run.mask[rows]),
        reader=reader,
    )
    halting = getattr(model, "halting", None)
    if run.halting is not None and halting is not None:
        with reader.as_recorded():
            result.halting = halting(result)
    return result
