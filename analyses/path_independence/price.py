"""What path independence costs: the limit of the loop, and the loop from other starts."""

from typing import Any

from loopscope.common.price import Price
from loopscope.dynamics.followed_starts import iterations_followed
from loopscope.dynamics.outcome import EXAMPLES
from loopscope.dynamics.prices import PRODUCT, limit_cost, spectra_cost
from loopscope.recorder.prices import in_passes, state_numbers
from loopscope.runs.run import Run, iterable_model
from loopscope.runs.run_mask import rows_that_count

REDUCED = (
    {"examples": 6},
    {"examples": 6, "random": 4, "exchanged": 2},
    {"examples": 6, "random": 1, "exchanged": 1},
)


def price(
    run: Run,
    *,
    examples: int = EXAMPLES,
    exchanged: int = 4,
    random: int = 12,
    adversarial: int = 0,
    iterations: int | None = None,
    **_: Any,
) -> Price:
    """Of `measure` with these options.

    Raises:
        LoopscopeError: the run can't be iterated on, which costs nothing.
    """
    iterable_model(run)
    counted, numbers, n = rows_that_count(run)[:examples], state_numbers(run), run.iterations
    rows = len(counted)
    iterations = n + max(96, n) if iterations is None else iterations
    starts = min(exchanged, rows - 1) + random + 1
    cost = limit_cost(run, rows, iterations - n, numbers)
    cost += max(0, rows * starts * iterations - iterations_followed(run, counted))
    cost += (adversarial and adversarial + 2) * rows * iterations * (1 + PRODUCT)
    return Price(in_passes(run, cost + spectra_cost(run, rows, numbers)))
