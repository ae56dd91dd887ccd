"""What convergence costs: the continuation, which gives the limit."""

from typing import Any

from loopscope.common.price import Price
from loopscope.recorder.extend import extra_of
from loopscope.recorder.prices import continuation_passes
from loopscope.runs.run import Run


def price(run: Run, *, extra: int | None = None, **_: Any) -> Price:
    """Of `measure` with these options."""
    return Price(continuation_passes(run, extra_of(run, extra) + 1))
