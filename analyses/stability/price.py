"""What stability costs: the limit of the loop, Jacobians there, and Lyapunov exponents."""

from typing import Any

from loopscope.common.price import Price
from loopscope.dynamics.outcome import EXAMPLES
from loopscope.dynamics.prices import PRODUCT, limit_cost, spectra_cost
from loopscope.maths.arnoldi import WHOLE
from loopscope.maths.dense_eigenvalues import DENSE
from loopscope.recorder.prices import in_passes, state_numbers
from loopscope.runs.run import Run
from loopscope.runs.run_mask import rows_that_count

from .measure import SMALL_STATE, affordable_gains

REDUCED = (
    {"examples": 6},
    {"examples": 6, "gains": 1},
    {"examples": 6, "gains": 1, "count": 2, "iterations": 32},
    {"examples": 6, "gains": 1, "gain": 2, "count": 1, "iterations": 16},
)
SEARCH = 20
"""Products by which a singular value is found, half of them with the transpose."""
SYSTEM = 25
"""Products by which a linear system of long states is solved, in each product with the input's
sensitivity; from 5 where the loop contracts fast to 50 where much of it hardly does."""


def price(
    run: Run,
    *,
    examples: int = EXAMPLES,
    count: int = 8,
    exponents_count: int = 1,
    iterations: int | None = None,
    gain: int | None = None,
    gains: int | None = None,
    extra: int | None = None,
    **_: Any,
) -> Price:
    """Of `measure` with these options."""
    rows, numbers, n = min(examples, len(rows_that_count(run))), state_numbers(run), run.iterations
    iterations = (2000 if numbers <= SMALL_STATE else 64) if iterations is None else iterations
    gain = min(32, n) if gain is None else gain
    gains = affordable_gains(rows, numbers) if gains is None else gains
    cost = limit_cost(run, rows, max(96, n) if extra is None else extra, numbers)
    cost += spectra_cost(run, rows, numbers, count)
    products = rows * (numbers if numbers <= DENSE else 2 * SEARCH)  # of the singular value
    inverse = numbers if numbers <= WHOLE else SYSTEM * SEARCH
    products += min(gains, rows) * (gain * SEARCH + inverse + 2 * SEARCH)
    cost += PRODUCT * products + rows * iterations * 1.25 * (2 + PRODUCT * (1 + exponents_count))
    return Price(in_passes(run, cost))
