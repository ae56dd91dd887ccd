"""only: a run of some of its examples."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.states import States
from ..runs.run import Reader, Run, iterable


def only(run: Run, rows: Sequence[int]) -> Run:
    """The run as it would be of these examples alone, in this order; an example may be there
    several times.

    Raises:
        LoopscopeError: a run with edits (which may be of other rows), or of a model that can't be
            iterated.
    """
    if run.origin.get("edits"):
        raise LoopscopeError(
            f"examples can be taken from a run without edits, but this one has {run.origin['edits']}, which "
            "may be of other examples. Record with the examples that you want."
        )
    model, chosen = iterable(run), [int(row) for row in rows]
    tokens, inputs = run.given(chosen)
    sites: dict[str, States | Tensor] = {}
    for name in run.names:
        site = run[name]
        if isinstance(site, States):
            sites[name] = site.at(batch=chosen) if "batch" in site.axes else site
        else:
            sites[name] = site[chosen] if len(site) == len(run.tokens) else site
    with torch.no_grad():
        context = model.encode(tokens, **inputs)
    state_type = run.reader.state_type
    read = Reader(
        model, context, lambda state: model.decode(state, context), state_type, grad=run.reader.grad
    )
    output = run.output[chosen] if isinstance(run.output, Tensor) else run.output
    result = Run(
        tokens=tokens,
        inputs=inputs,
        iterations=run.iterations,
        sites=sites,
        output=output,
        origin=run.origin,
        read=read,
    )
    halting = getattr(model, "halting", None)
    if run.halting is not None and halting is not None:
        result.halting = halting(result)
    return result
