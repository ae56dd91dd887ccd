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
from ..runs.spilled import LARGE


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
            sites[name] = site.at(batch=_selector(site, rows)) if "batch" in site.axes else site
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
    held = run.states.in_memory or isinstance(run.output, Tensor)
    logits = output_logits(run) if held else None  # of several values, all that analyses read
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
    if not held:
        result.output = _decoded(result)
    halting = getattr(model, "halting", None)
    if run.halting is not None and halting is not None:
        with reader.as_recorded():
            result.halting = halting(result)
    return result


def first_of_many(run: Run, examples: int) -> Run | None:
    """The run of the first examples alone, where the states of all would fill the memory and these
    are enough; None elsewhere, and where they can't be taken from it."""
    if len(run.tokens) <= examples or run.states.nbytes <= LARGE:
        return None
    try:
        return run.memory.once(("first examples", examples), lambda: select_examples(run, range(examples)))
    except LoopscopeError:  # it has edits, or no model
        return None


def _decoded(run: Run) -> Tensor | None:
    """The logits of a run whose output was left out, or holds none; None if they can't be
    decoded."""
    try:
        return run.logits[run.iterations]
    except LoopscopeError:
        return None


def _selector(site: States, rows: list[int]) -> list[int] | slice:
    """Examples as a slice, where they are one and the values are in files, of which then no others
    are read."""
    one_after_another = rows == list(range(rows[0], rows[-1] + 1)) if rows else False
    return slice(rows[0], rows[-1] + 1) if one_after_another and not site.in_memory else rows
