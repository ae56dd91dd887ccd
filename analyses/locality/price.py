"""What locality costs: the state patched at each position, and the iterations after."""

from typing import Any, Literal

from loopscope.common.price import Price
from loopscope.recorder.prices import in_passes
from loopscope.runs.run import Run
from loopscope.runs.run_mask import mask_at

from .measure import AFTER, MIN_EXAMPLES, affordable

REDUCED = ({"examples": 32}, {"examples": 16}, {"examples": 8})


def price(
    run: Run,
    *,
    iteration: int | None = None,
    iterations_after: int = AFTER,
    examples: int | Literal["affordable"] | None = "affordable",
    **_: Any,
) -> Price:
    """Of `measure` with these options."""
    most = max(MIN_EXAMPLES, affordable(run)) if examples == "affordable" else examples
    rows = min(most or len(run.tokens), len(run.tokens))
    k = run.iterations // 2 if iteration is None else run.states.iteration_at(iteration)
    positions = int(mask_at(run, run.states).any(0).sum())
    return Price(in_passes(run, rows * positions * min(iterations_after, run.iterations - k)))
