"""What cycles costs: the continuation, and a recording of the layers."""

from collections.abc import Sequence
from typing import Any

from loopscope.common.price import Price
from loopscope.recorder.extend import extra_of
from loopscope.recorder.prices import continuation_passes, sites_passes
from loopscope.runs.run import Run

from .layer_limits import layer_names

REDUCED = ({"examples": 8}, {"examples": 4}, {"layers": ()})


def price(
    run: Run,
    *,
    extra: int | None = None,
    layers: Sequence[str] | None = None,
    examples: int = 16,
    **_: Any,
) -> Price:
    """Of `measure` with these options."""
    extra, names = extra_of(run, extra), layer_names(run, layers)
    again = [name for name in names if name not in run]
    recorded = sites_passes(run, again, extra, examples) if again else 0.0
    return Price(continuation_passes(run, extra) + recorded)
