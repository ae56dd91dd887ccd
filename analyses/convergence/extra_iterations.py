"""The iterations beyond a run that give the limit; or else the run's own last quarter."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Bool
from torch import Tensor

from loopscope.common.errors import LoopscopeError
from loopscope.core.finite import all_finite
from loopscope.core.indexing import as_vectors
from loopscope.core.states import States
from loopscope.recorder.continued_run import continued_run, states_past_halting
from loopscope.recorder.extend import first_overflow, kept_short, not_iterable
from loopscope.runs.run import Run
from loopscope.runs.run_mask import mask_at


class ExtendedRun(NamedTuple):
    """A run with extra iterations."""

    states: dict[str, States]
    end: int
    """The last k of the result."""
    limit: int
    """The k of the limit; one more state is there, for its residual."""
    last: int
    """The last k by which it is judged where the states go."""
    note: str
    """How the limit was taken, as a sentence."""
    overflow: int | None = None
    """The first k that holds NaN or infinity."""


def with_extra_iterations(run: Run, extra: int, sites: Sequence[str]) -> ExtendedRun:
    """A run and its extra iterations; where there can't be any, the run with its last quarter used
    for the limit.

    Arguments:
        sites: measured besides the state. Without any, a loop that halts is iterated further, which
            gives the state but no other site.

    Raises:
        LoopscopeError: the run can't be continued and has too few iterations.
    """
    n, goal = run.iterations, run.iterations + extra
    try:
        _ = run.reader
    except LoopscopeError:
        return _last_quarter(run, "The run was loaded without its model")
    if (reason := not_iterable(run)) is not None:
        return _last_quarter(run, reason)
    if "short" in run.origin:
        return _last_quarter(run, kept_short(run))
    later = continued_run(run, goal + 1, sites)
    states = {name: later[name] for name in later.names}
    note = f"Distances are to state {goal}, {extra} iterations beyond the run."
    if later.iterations <= goal and later.first_nonfinite() is None:
        if sites:
            return _last_quarter(run, "The loop halts by itself")
        states["state"] = states_past_halting(later, goal + 1)
        note += (
            f" The loop itself ends after {later.iterations} iterations, when every position has halted; its "
            "map was iterated further."
        )
    note += " The run's edits were not applied to the extra iterations." if run.origin.get("edits") else ""
    mask = mask_at(run, run.states)
    overflow = first_overflow(states["state"], mask)
    if overflow is None:
        return ExtendedRun(states, n, goal, goal, note)
    lost = mask & ~finite_positions(states["state"], mask)
    if bool((mask & ~lost).any()):
        note += (
            f" From state {overflow} on {int(lost.sum())} of {int(mask.sum())} positions overflow; distances "
            "and rates leave these out."
        )
        return ExtendedRun(states, n, goal, goal, note, overflow)
    if overflow < n + 3:
        quarter = _last_quarter(run, "The next iterations overflow")
        return quarter._replace(states=states, last=goal, overflow=overflow)
    note = f"Distances are to state {overflow - 2}: the extra iterations overflow at state {overflow}."
    return ExtendedRun(states, n, overflow - 2, goal, note, overflow)


def finite_positions(states: States, mask: Bool[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
    """Which of the positions in the mask are finite in every state."""
    finite = mask.clone()
    for k in states.iterations:
        if not all_finite(states[k]):
            finite &= as_vectors(states[k], states.axes[1:]).isfinite().all(-1).to(mask.device)
    return finite


def _last_quarter(run: Run, reason: str) -> ExtendedRun:
    """The limit from the run itself."""
    n = run.iterations
    first = next(iter(run.states.iterations), n)
    kept = n - first if first > 1 else n
    spent = max(2, math.ceil(kept / 4))
    if kept - spent < 2:
        raise LoopscopeError(
            f"{reason}, so the limit must come from the run itself, which needs 4 iterations or more, but it "
            f"has {kept}. Record more."
        )
    note = (
        f"{reason}, so distances are to state {n - 1} of the run itself, and its last {spent} iterations are "
        "left out of the result."
    )
    return ExtendedRun({name: run[name] for name in run.names}, n - spent, n - 1, n, note)
