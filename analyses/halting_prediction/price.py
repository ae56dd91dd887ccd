"""What halting prediction costs: further examples of the task, recorded."""

from typing import Any

from loopscope.common.price import Price
from loopscope.recorder.prices import in_passes
from loopscope.runs.run import Run

from .measure import example_count, halting_of

REDUCED = ({"examples": 160}, {"examples": 80})


def price(
    run: Run,
    *,
    rule: str | None = None,
    threshold: float | int | None = None,
    examples: int | None = None,
    **_: Any,
) -> Price:
    """Of `measure` with these options."""
    halting = halting_of(run, rule, threshold)
    if halting is None:
        return Price(0.0)
    examples = example_count(run, halting) if examples is None else examples
    return Price(in_passes(run, examples * run.iterations) if examples > len(run.tokens) else 0.0)
