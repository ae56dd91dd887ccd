"""example_parts: a run that is larger than the memory, some examples at a time."""

from collections.abc import Iterator

from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.lazy_values import form_at
from ..runs.run import Run, iterable_model
from .subset import select_examples

PART = 64_000_000
"""Bytes of a part's states after one iteration, with their logits."""


def example_parts(run: Run, size: int | None = None) -> Iterator[tuple[slice, Run]]:
    """(examples, the run of these), one part after the other, so that what is read out of the
    states of an iteration is of one part at a time. The run itself, where its values are in
    memory, or it can't be taken apart: it has edits, or its model can't be iterated.

    Arguments:
        size: bytes of a part, one example at least; None: PART.
    """
    step = _examples(run, PART if size is None else size)
    if step is None:
        yield slice(0, _batch(run)), run
        return
    for start in range(0, _batch(run), step):
        rows = slice(start, min(start + step, _batch(run)))
        yield rows, select_examples(run, range(rows.start, rows.stop))


def _examples(run: Run, size: int) -> int | None:
    """How many examples a part has; None: all, undivided."""
    if run.states.in_memory or "batch" not in run.states.axes or run.origin.get("edits"):
        return None
    try:
        iterable_model(run)
    except LoopscopeError:
        return None
    batch, values = _batch(run), run.states.by_index
    logits = run.output.nbytes / batch if isinstance(run.output, Tensor) else _of_one(run)
    each = form_at(values, next(reversed(list(values)))).nbytes / batch + logits
    step = max(1, int(size / max(1.0, each)))
    return step if step < batch else None


def _of_one(run: Run) -> float:
    """Bytes of an example's logits."""
    output = select_examples(run, [0]).output
    return output.nbytes if isinstance(output, Tensor) else 0.0


def _batch(run: Run) -> int:
    shape = dict(zip(run.states.axes, run.states.shape, strict=True))
    return shape.get("batch", len(run.tokens))
