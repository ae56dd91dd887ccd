"""Whether a padded row is the row alone, where the model takes a mask."""

from dataclasses import replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from ..adapters.base import Adapter
from ..adapters.forward_inputs import takes
from ..core.counted import PADDING_INPUTS
from ..core.output_logits import find_logits
from ..runs.run import Run
from .finding import Finding, failed, inapplicable, largest_difference, largest_size
from .output_check import unsteady_output
from .result import Outcome
from .subject import Subject

_ROUNDING = 100
"""Rows of another length are computed by other kernels: so many eps of the largest number."""
_SIDES = {"right": slice(None, -1), "left": slice(1, None)}
"""Where the padding is, and the positions of the row itself."""


def padding(subject: Subject) -> Finding:
    """One position of padding beside a row that is otherwise recorded alone: its states and its
    logits, up to rounding. The padding is on the right, or else on the left."""
    name = _mask_name(subject)
    if name is None:
        return inapplicable("the model's forward takes no padding mask")
    tokens = subject.tokens
    if not isinstance(tokens, Tensor) or tokens.ndim < 2 or tokens.shape[1] < 3:
        return inapplicable("a row of 3 positions or more is needed to leave one out")
    if unsteady := unsteady_output(subject):
        return unsteady
    findings = [_padded(subject, name, side) for side in _SIDES]
    return next((one for one in findings if one.outcome is Outcome.passed), findings[0])


def _padded(subject: Subject, name: str, side: str) -> Finding:
    real = _SIDES[side]
    tokens = subject.tokens[:1]
    positions = tokens.shape[1]
    counts = torch.zeros(1, positions, dtype=torch.bool)
    counts[:, real] = True
    inputs = {key: value for key, value in subject.inputs.items() if key not in PADDING_INPUTS}
    rows = {key: value[:1] if _is_row(value, len(subject.tokens)) else value for key, value in inputs.items()}
    padded = replace(subject, tokens=tokens, inputs=rows | {name: _mask(counts, name, tokens)})
    alone = tokens[:, real]
    short = replace(subject, tokens=alone, inputs=rows | {name: _mask(counts[:, real], name, tokens)})
    try:
        padded.forward()
    except Exception as error:  # of the model's own, whose mask may be no tensor
        return inapplicable(f"the model itself doesn't take this mask as '{name}': {error}")
    runs = padded.record(), short.record()
    one, other = _values(runs[0], real), _values(runs[1], slice(None))
    off, size = largest_difference(one, other), largest_size(other)
    eps = max(torch.finfo(value.dtype).eps for value in other if value.is_floating_point())
    what = f"a row padded on the {side} and the row alone"
    mismatch = next((run.origin["mismatch"] for run in runs if "mismatch" in run.origin), None)
    if mismatch is not None and "mismatch" not in subject.run.origin:
        return failed(f"with a mask {mismatch}")
    if off <= _ROUNDING * eps * size:
        return Finding(Outcome.passed, off, f"states and logits of {what}, up to rounding")
    own = largest_difference(_logits(padded.output, real), _logits(short.output, slice(None)))
    if largest_difference(replace(padded, seed=subject.seed + 1).output, padded.output):
        return inapplicable("the model draws random numbers, and other ones for a row of another length", off)
    source = f"; the model's own output does so by {own:.3g}, without any recording" if own else ""
    return failed(f"{what} differ by up to {off:.3g}{source}", off)


def _mask_name(subject: Subject) -> str | None:
    """The input by which the model is told of padding."""
    if not isinstance(subject.tokens, Tensor):
        return None
    model: Any = subject.model
    module = model.module if isinstance(model, Adapter) else subject.module
    names = signature(module.forward).parameters
    followed = model.followed_inputs if isinstance(model, Adapter) else PADDING_INPUTS
    offered = [name for name in PADDING_INPUTS if takes(module, name) and (name in names or name in followed)]
    if not isinstance(model, Adapter):
        offered = [name for name in offered if name in names]
    return next((name for name in offered if name in followed), next(iter(offered), None))


def _mask(counts: Tensor, name: str, tokens: Tensor) -> Tensor:
    """A mask as this input has it."""
    if name == "attention_mask":
        return counts.long().to(tokens.device)
    return (counts if PADDING_INPUTS[name] else ~counts).to(tokens.device)


def _is_row(value: Any, batch: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == batch


def _values(run: Run, real: slice) -> list[Tensor]:
    """The states and logits at the row's own positions."""
    axes = run.states.axes
    states = [
        value[tuple(real if name == "position" else slice(None) for name in axes[len(index) :])]
        for index, value in run.states.items()
        if "position" in axes
    ]
    return [*states, *_logits(run.output, real)]


def _logits(output: Any, real: slice) -> list[Tensor]:
    logits = find_logits(output)
    return [] if logits is None or logits.ndim < 3 else [logits[:, real]]
