"""Whether recording leaves anything behind: in the module, in torch, in what was passed."""

from typing import Any

import torch

from ..common.errors import LoopscopeError
from ..core.copied import copied
from ..interventions.edits import add, patch
from .finding import Finding, failed, largest_difference
from .module_trace import Trace, passing_state
from .result import Outcome
from .subject import Subject


def nothing_left_behind(subject: Subject) -> Finding:
    """Hooks, attributes, modes, weights and gradients after recordings, with an edit and with one
    that fails; buffers and random states after one without a seed, as after the model's own pass;
    the tokens and inputs."""
    kept = copied((subject.tokens, subject.inputs))
    subject.forward(seed=None)
    by_itself = passing_state(subject.module)
    subject.record(seed=None, sites="all")
    recorded = passing_state(subject.module)
    changes = [
        f"{name} isn't what the model's own pass leaves"
        for name in by_itself
        if by_itself[name] != recorded[name]
    ]
    with torch.random.fork_rng():
        subject.record(sites="all")
    for edit in _edits(subject):
        try:
            subject.record(edits=[edit])
        except (LoopscopeError, RuntimeError):
            continue  # one must fail; whether the other is allowed is another check's matter
    changes += subject.trace.changes(Trace.of(subject.module))
    if off := largest_difference(kept, (subject.tokens, subject.inputs)):
        return failed("the tokens or inputs that were passed were written to", off)
    if changes:
        more = f", and {len(changes) - 3} more" if len(changes) > 3 else ""
        return failed(f"after recording {'; '.join(changes[:3])}{more}")
    return Finding(
        Outcome.passed,
        None,
        "hooks, attributes, modes, weights, gradients, buffers, random states, inputs; also after an edit "
        "and after a recording that fails",
    )


def _edits(subject: Subject) -> list[Any]:
    """An edit that may work, and one whose value fits nowhere."""
    k = max(1, subject.run.iterations // 2)
    return [add(value=1.0, iteration=k), patch("state", value=torch.zeros(97, 3), iteration=k)]
