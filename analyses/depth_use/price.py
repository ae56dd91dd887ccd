"""What depth use costs: the runs in which a token is replaced."""

from typing import Any

from loopscope.common.price import Price
from loopscope.recorder.prices import in_passes
from loopscope.runs.run import Run

from .measure import EXCHANGE_POINTS, MAX_INPUTS

REDUCED = ({"max_inputs": 10}, {"max_inputs": 5}, {"max_inputs": 0})


def price(
    run: Run, *, max_inputs: int | None = MAX_INPUTS, points: int | None = EXCHANGE_POINTS, **_: Any
) -> Price:
    """Of `measure` with these options."""
    n = run.iterations
    inputs = run.tokens.numel() if max_inputs is None else max_inputs
    candidates = inputs if max_inputs is None else 2 * inputs
    # each from k on, with the token replaced and with the state alone
    per_input = n + 2 * min(n + 1, points or n + 1) * n / 2
    return Price(in_passes(run, candidates * n + inputs * per_input))
