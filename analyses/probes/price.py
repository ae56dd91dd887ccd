"""What probes cost: further examples of the task, recorded, and an untrained model's."""

from typing import Any

from loopscope.common.price import Price
from loopscope.recorder.prices import in_passes
from loopscope.runs.run import Run

from .measure import example_count

REDUCED = ({"examples": 160}, {"examples": 80}, {"examples": 40})


def price(run: Run, *, examples: int | None = None, **_: Any) -> Price:
    """Of `measure` with these options."""
    examples = example_count(run, examples)
    further = examples if examples > len(run.tokens) else 0
    return Price(in_passes(run, (further + max(examples, len(run.tokens))) * run.iterations))
