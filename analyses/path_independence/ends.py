"""Where the loop ends from given states."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from loopscope.common.progress import tracked
from loopscope.dynamics.iteration_map import IterationMap


@dataclass(frozen=True)
class Ends:
    """Where trajectories end."""

    states: Float[Tensor, "*row number"]
    earlier: Float[Tensor, "*row number"]
    """The states a quarter of the iterations before."""
    overflow: int
    """The k of the first state with NaN or infinity, the start being 0; -1 if there is none."""


def run_to_end(loop: IterationMap, x: Float[Tensor, "row number"], iterations: int) -> Ends:
    """Apply the loop `iterations` times."""
    overflow, before, earlier = -1, iterations - max(1, iterations // 4), x
    steps = tracked(loop.trajectory(x, iterations), "running from other starts", iterations + 1)
    for k, y in enumerate(steps):
        x = y
        if k == before:
            earlier = x
        if overflow < 0 and not bool(x.isfinite().all()):
            overflow = k
    return Ends(x, earlier, overflow)
