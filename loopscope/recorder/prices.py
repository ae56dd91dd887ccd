"""What recording and continuing cost, in forward passes of a run's batch (`Price`)."""

import time
from collections.abc import Sequence
from math import inf, prod
from typing import Any

import torch

from ..common.errors import LoopscopeError
from ..common.price import Budget
from ..core.looped_model import step_at
from ..core.state_tree import items
from ..runs.run import Run, iterable_model
from .extend import not_iterable


def in_passes(run: Run, row_iterations: float) -> float:
    """Iterations, each counted for each of its rows, as forward passes of the run's batch."""
    return row_iterations / max(1, len(run.tokens) * run.iterations)


def continuation_passes(run: Run, extra: int) -> float:
    """Of continuing the states of a run; nothing where it remembers them, or can't be continued."""
    if "short" in run.origin or not_iterable(run) is not None:
        return 0.0
    continuations: Sequence[Run] = run.memory.recall("continuations") or ()
    reached = max((one.iterations for one in continuations), default=run.iterations)
    return in_passes(run, len(run.tokens) * max(0, run.iterations + extra - reached))


def sites_passes(run: Run, sites: Sequence[str], extra: int, examples: int) -> float:
    """Of a continued run with these sites, which is recorded again if they weren't recorded."""
    if all(site in run for site in sites):
        return continuation_passes(run, extra)
    return in_passes(run, min(examples, len(run.tokens)) * (run.iterations + extra))


def state_numbers(run: Run) -> int:
    """How many numbers the state of one example has, all of its fields together."""
    recurrent = getattr(run.model, "recurrent_fields", None)
    fields = items(run.state(run.states.iterations[-1]))
    return sum(
        prod(value.shape[1:])
        for name, value in fields.items()
        if value.is_floating_point() and (not recurrent or name in recurrent)
    )


def passes_of(budget: Budget, run: Any) -> float:
    """A budget as forward passes of a run's batch; without end where a time stands for none, as
    that of a run which can't be iterated."""
    if budget.passes is not None:
        return budget.passes
    try:
        return budget.in_passes(pass_seconds(run))
    except (LoopscopeError, AttributeError):
        return inf


def pass_seconds(run: Run) -> float:
    """How long one bare forward of the run's batch takes now, from the faster of two of its
    iterations. The run remembers it."""
    return run.memory.once("pass seconds", lambda: _timed(run))


def _timed(run: Run) -> float:
    k = run.states.iterations[-1]
    iterable_model(run)
    model, context, state = run.model, run.reader.context, run.state(k)
    times = []
    with run.reader.as_recorded(), torch.no_grad():
        for _ in range(2):
            begin = time.perf_counter()
            step_at(model, state, context, max(0, k - 1))
            times.append(time.perf_counter() - begin)
    return min(times) * max(1, run.iterations)
