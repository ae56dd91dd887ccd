"""The model's own answer after the last iteration, which a lens is compared with."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..common.errors import LoopscopeError
from ..recorder.example_parts import example_parts
from ..runs.output_logits import output_logits
from ..runs.run import Run


def final_logits(run: Run) -> Float[Tensor, "batch position vocab"]:
    """The logits of the run's output, or where the model answers from an earlier state, of its last
    state.

    Raises:
        LoopscopeError: the output isn't logits over a vocabulary at every position.
    """
    early = bool(run.origin.get("answers_early"))
    without = run.has_model and (run.output is None or not run.reader.output_is_logits)
    # Where the model's output holds no logits, reading them out says what to do.
    logits = run.logits[run.iterations] if early or without else output_logits(run)
    if isinstance(logits, Tensor) and logits.ndim == 2 and _last_state(run).ndim == 2:
        logits = logits[:, None]
    if not isinstance(logits, Tensor) or logits.ndim != 3 or not logits.is_floating_point():
        received = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(run.output).__name__}"
        raise LoopscopeError(
            "a lens needs a model that answers with logits (batch, position, vocab), but this run's output "
            f"is {received}. Record a model with a head for every position."
        )
    if logits.shape[-1] == 1:
        raise LoopscopeError(
            "a lens needs answers that are tokens, but this model answers with one number. Read "
            "run.logits[k] instead."
        )
    return _at_every_position(run, logits.detach())


def final_shape(run: Run) -> tuple[int, int, int]:
    """(batch, position, vocab) of `final_logits`, with its errors; of a run that is larger than the
    memory from a few examples."""
    part = next(example_parts(run))[1]
    shape = final_logits(part).shape
    return shape[0] if part is run else len(run.tokens), shape[1], shape[2]


def final_answers(run: Run) -> Int[Tensor, "batch position"]:
    """The likeliest tokens of `final_logits`, on the CPU."""
    return torch.cat([final_logits(part).argmax(-1).cpu() for _, part in example_parts(run)])


def _last_state(run: Run) -> Tensor:
    return run.states[run.states.iterations[-1]]


def _at_every_position(run: Run, logits: Tensor) -> Tensor:
    """The logits of every position, also where the model returned only those of the last ones, as
    in generation."""
    last = _last_state(run)
    if not run.has_model or last.ndim != 3 or logits.shape[1] >= last.shape[1]:
        return logits
    if not run.origin.get("whole", True) or run.iterations not in run.states.iterations:
        return logits
    try:
        whole = run.reader.logits(run.state(run.iterations)).detach()
    except LoopscopeError:  # a module wrapped by its loop body
        return logits
    tail = whole[:, -logits.shape[1] :] if whole.ndim == 3 else whole
    tolerance = 1e-2 * float(logits.abs().max())
    close = tail.shape == logits.shape and torch.allclose(tail, logits.to(tail), rtol=0, atol=tolerance)
    return whole if close else logits
