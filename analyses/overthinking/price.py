"""What overthinking costs: the iterations beyond the model's own depth."""

from typing import Any

from loopscope.common.price import Price
from loopscope.recorder.prices import continuation_passes
from loopscope.runs.run import Run

from .measure import goal_of


def price(run: Run, *, iterations: int | None = None, **_: Any) -> Price:
    """Of `measure` with these options."""
    return Price(continuation_passes(run, goal_of(run, iterations) - run.iterations))
