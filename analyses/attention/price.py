"""What attention costs: the patterns of a continued run."""

from collections.abc import Sequence
from typing import Any

from loopscope.common.price import Price
from loopscope.recorder.extend import sites_in_loop
from loopscope.recorder.prices import sites_passes
from loopscope.runs.run import Run

from .measure import example_count

REDUCED = ({"examples": 16}, {"examples": 8}, {"examples": 4})


def price(
    run: Run,
    *,
    sites: Sequence[str] | None = None,
    extra: int | None = None,
    examples: int | None = None,
    **_: Any,
) -> Price:
    """Of `measure` with these options."""
    names = sites_in_loop(run, "hook_pattern") if sites is None else list(sites)
    examples = example_count(run, sites, extra) if examples is None else examples
    return Price(sites_passes(run, names, max(32, run.iterations) if extra is None else extra, examples))
