"""What causes cost: every patched state, run to the end."""

from typing import Any, Literal

from loopscope.common.price import Price
from loopscope.recorder.prices import in_passes
from loopscope.runs.run import Run

from .measure import MAX_ITERATIONS, MIN_EXAMPLES, affordable, position_iterations, spaced

REDUCED = ({"examples": 32}, {"examples": 16}, {"examples": 8}, {"examples": 8, "iterations": 3})


def price(
    run: Run,
    *,
    site: str | None = None,
    examples: int | Literal["affordable"] | None = "affordable",
    iterations: int | None = MAX_ITERATIONS,
    **_: Any,
) -> Price:
    """Of `measure` with these options."""
    most = max(MIN_EXAMPLES, affordable(run)) if examples == "affordable" else examples
    rows, n = min(most or len(run.tokens), len(run.tokens)), run.iterations
    whole = spaced(run, site, iterations) or range(n + 1)
    where = position_iterations(run, list(whole), every=iterations is None)
    # and those that are the best for some example, again, with the second donors
    single = 1.5 * run.states.shape[2] * sum(n - k for k in where)
    return Price(in_passes(run, rows * (sum(n - k for k in whole) + single)))
