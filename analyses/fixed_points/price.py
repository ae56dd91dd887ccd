"""What fixed points cost: the limit of the loop, and iteration and solvers from other starts."""

from typing import Any

from loopscope.common.price import Price
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.outcome import EXAMPLES
from loopscope.dynamics.prices import ANDERSON, PRODUCT, limit_cost, spectra_cost
from loopscope.maths.fixed_point import DENSE
from loopscope.recorder.prices import in_passes, state_numbers
from loopscope.runs.run import Run
from loopscope.runs.run_mask import rows_that_count

from .iterated_starts import affordable

REDUCED = (
    {"examples": 6},
    {"examples": 6, "random": 4, "exchanged": 2, "perturbed": 1},
    {"examples": 6, "random": 1, "exchanged": 1, "perturbed": 0},
)
SEARCH = 10
"""Iterations of Newton's search from far away."""


def price(
    run: Run,
    *,
    examples: int = EXAMPLES,
    extra: int | None = None,
    perturbed: int = 2,
    exchanged: int = 4,
    random: int = 12,
    most: int | None = None,
    **_: Any,
) -> Price:
    """Of `measure` with these options."""
    counted, n = rows_that_count(run)[:examples], run.iterations
    rows, numbers = len(counted), state_numbers(run)
    extra = max(96, n) if extra is None else extra
    cost = limit_cost(run, rows, extra, numbers) + spectra_cost(run, rows, numbers)
    if is_one_map(run):
        starts = perturbed + min(exchanged, rows - 1) + random + 1
        few = affordable(numbers, n + extra, n) if most is None else most
        starts = starts if few is None else min(starts, few)
        search = ANDERSON + SEARCH * numbers * PRODUCT if numbers <= DENSE else ANDERSON
        # iteration from there stops where it has converged, which half of it may be enough for
        cost += rows * starts * ((n + extra) / 2 + n + search)
    return Price(in_passes(run, cost))


def is_one_map(run: Run) -> bool:
    """Whether every iteration applies the same map; found from one example."""
    rows = rows_that_count(run)[:1]
    return run.memory.once("one map", lambda: (IterationMap(run, rows, False).is_time_invariant,))[0]
