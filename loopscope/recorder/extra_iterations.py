"""extra_of: how many iterations a run is continued by."""

from ..runs.run import Run

EXTRA = 64
"""Iterations beyond a run after which it is judged where its states go, at least."""
LONG = 4096
"""Numbers in an example's state from which on a run is continued by FOLD times its iterations at
most, as each costs much."""
FOLD, LEAST = 6, 16
"""Of a run with few iterations that would be too few to see where its states go, so it is continued
by LEAST at least."""


def extra_of(run: Run, extra: int | None) -> int:
    """How many iterations a run is continued by: `extra`, or if that is None as many as it has,
    EXTRA at least; of long states (LONG) no more than FOLD times as many, or LEAST."""
    if extra is not None:
        return extra
    every = max(EXTRA, run.iterations)
    long = run.states[run.states.iterations[0]][0].numel() > LONG
    return min(every, max(LEAST, FOLD * run.iterations)) if long else every
