"""The logits in what a run's model returned."""

from torch import Tensor

from ..core.output_logits import find_logits
from .run import Run


def output_logits(run: Run) -> Tensor | None:
    """The model's own answer as logits, also where its output is a tuple, dict or dataclass; None if
    it holds none."""
    return run.output if isinstance(run.output, Tensor) else find_logits(run.output)


def position_logits(run: Run) -> Tensor | None:
    """The same, if they are (batch, position, vocab); else None."""
    logits = output_logits(run)
    return logits if logits is not None and logits.ndim == 3 else None
