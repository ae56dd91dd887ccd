"""The logits in what a run's model returned."""

from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.output_logits import find_logits
from .run import Run


def output_logits(run: Run) -> Tensor | None:
    """The model's own answer as logits, also where its output is a tuple, dict or dataclass, or
    where a module that was named returns them; None if there are none."""
    if not run.has_model or run.reader.output_is_logits:
        return find_logits(run.output)
    try:
        return run.logits[run.iterations]
    except LoopscopeError:
        return None


def position_logits(run: Run) -> Tensor | None:
    """The same, if they are (batch, position, vocab); else None."""
    logits = output_logits(run)
    return logits if logits is not None and logits.ndim == 3 else None
