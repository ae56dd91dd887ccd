"""Whether an adapter's read-out is the model's own, seen in a pass that the model made by
itself."""

import torch
from torch import Tensor

from ..adapters.base import Adapter
from ..maths.precision import resolution
from ..runs.reader import Reader
from ..runs.run import Run

_ROUNDING = 1e-4
"""Of the largest logit: the model may compute fewer positions at once than the read-out."""


def reads_out(adapter: Adapter, run: Run) -> bool:
    """Whether each answer of the pass is what the adapter reads out of one of its states; True for
    a run that can't be read out."""
    output = run.output
    readable = run.reader.reads_states and run.origin.get("whole", True)
    if not readable or not isinstance(output, Tensor):
        return True
    found = torch.zeros(output.shape[:-1], dtype=torch.bool, device=output.device)
    fields = [run[f"state.{name}"] for name in run.origin.get("fields", ())[1:]]
    eps = max(resolution(output.dtype), resolution(run.states[run.states.iterations[-1]].dtype))
    scale = max(_ROUNDING, 8 * eps) * float(output.abs().max())
    for k in reversed(run.states.iterations):
        if all(k in field.iterations for field in fields):
            with torch.no_grad():
                logits = adapter.logits_from_state(run.state(k))
            assert logits is not None
            off = (logits[:, -found.shape[-1] :] - output).abs().amax(-1)
            found |= off <= scale
        if bool(found.all()):
            return True
    return False


def without_read_out(adapter: Adapter, run: Run) -> Run:
    """The same run, whose states can't be read out."""
    kind = type(adapter.module).__name__
    refusal = (
        f"an answer of {kind} must be its adapter's read-out of a state to read out the others, but in this "
        "pass it is that of none. run.output is the model's own answer. Trust the adapter nevertheless: "
        "ls.wrap(model, check=False)."
    )
    return Run(
        tokens=run.tokens,
        iterations=run.iterations,
        sites={name: run[name] for name in run.names},
        output=run.output,
        origin=run.origin,
        reader=Reader(adapter.module, None, None, None, grad=False, refusal=refusal),
    )
