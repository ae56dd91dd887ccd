"""What roles cost: the loop with each state frozen, an untrained model's, and the patterns."""

from collections.abc import Sequence
from typing import Any

from loopscope.common.price import Price
from loopscope.recorder.prices import in_passes
from loopscope.runs.run import Run
from loopscope.runs.run_mask import rows_that_count

from .frozen_states import state_fields
from .measure import EXAMPLES

REDUCED = ({"examples": 16}, {"examples": 8, "compare": False})


def price(
    run: Run,
    *,
    starts: Sequence[int] | None = None,
    examples: int | None = EXAMPLES,
    compare: bool = True,
    **_: Any,
) -> Price:
    """Of `measure` with these options."""
    n, rows = run.iterations, len(rows_that_count(run)[:examples])
    frozen = sum(n - start + 1 for start in sorted({0, 1, n // 4} if starts is None else {0, *starts}))
    cost = rows * (len(state_fields(run)) * frozen + n) + (rows * n if compare else 0)
    return Price(in_passes(run, cost))
