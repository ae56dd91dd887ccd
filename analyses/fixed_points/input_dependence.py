"""Whether a loop reads its input, and how far its fixed points depend on it."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.limit_point import Limit


def input_dependence(
    loop: IterationMap, limit: Limit, converged: Bool[Tensor, " example"]
) -> tuple[bool, float]:
    """(whether an iteration reads its input, the mean distance between the examples' fixed points
    over that between their inputs).

    Both distances are in units of their root mean square. The second number is 0 if no input is
    read, NaN for fewer than two examples that converge.

    Arguments:
        converged: the examples that end at a fixed point.
    """
    inputs, several = loop.inputs(), int(converged.sum()) > 1
    if inputs is None or not _reads(loop, limit, inputs):
        return False, 0.0 if several else float("nan")
    if not several:
        return True, float("nan")
    rows = converged.to(limit.point.device)
    points, tokens = _relative_distance(limit.point[rows]), _relative_distance(inputs[rows])
    return True, points / tokens if tokens > 0 else float("nan")


def _reads(loop: IterationMap, limit: Limit, inputs: Tensor) -> bool:
    """Whether a change of the inputs changes an iteration."""
    x = torch.where(limit.point.isfinite(), limit.point, torch.nan_to_num(limit.states[0], 0.0, 0.0, 0.0))
    with torch.no_grad():
        size = inputs.square().mean().sqrt()
        changed = inputs + (0.1 * size if size > 0 else 1.0)
        return not torch.equal(loop.with_inputs(x, inputs), loop.with_inputs(x, changed))


def _relative_distance(x: Float[Tensor, "row width"]) -> float:
    """The mean distance between rows over their root mean square norm."""
    rms = float(x.square().sum(1).mean().sqrt())
    return float(torch.pdist(x.double()).mean()) / rms if rms > 0 else 0.0
