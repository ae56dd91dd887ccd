"""Sizes along trajectories: norms, steps and distances, in one pass over the states."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..core.finite import all_finite

_LEAST = 1e-8
"""Shorter vectors have no direction, as in torch's `cosine_similarity`."""


class TrajectorySizes(NamedTuple):
    """Numbers of each state, and of each step between two, of several trajectories (rows). In
    double precision, with zeros for what isn't finite."""

    norm: Float[Tensor, "state row"]
    step: Float[Tensor, "iteration row"]
    """‖x_(k+1) - x_k‖"""
    away: Float[Tensor, "state row"]
    """Distance from the first state."""
    left: Float[Tensor, "state row"]
    """Distance to the last state."""
    distance: Float[Tensor, "state row"]
    """Distance to the target."""
    cosine: Float[Tensor, "state row"]
    """Cosine to the target."""
    last: Float[Tensor, "row width"]
    """The last state."""
    bad: Bool[Tensor, "state row"]
    """Whether a state holds NaN or infinity."""

    def until(self, states: int) -> "TrajectorySizes":
        """The same of the first so many states, the last of which must be `last`."""
        cut = {name: getattr(self, name)[:states] for name in ("norm", "away", "left", "bad")}
        return self._replace(step=self.step[: states - 1], **cut)


def trajectory_sizes(
    values: Sequence[Float[Tensor, "row width"]], last: int = -1, target: int | None = None
) -> TrajectorySizes:
    """The sizes along trajectories. Beside the values no more than six states are in memory.

    Arguments:
        values: the states, one after the other; 2 at least.
        last: index of the state that `left` is the distance to.
        target: index of the state that distance and cosine are to; None: neither is computed.
    """
    ends = [_finite(values[k]) for k in (0, last, last if target is None else target)]
    first, end, goal = ends
    same = target is None or range(len(values))[target] == range(len(values))[last]
    goal_norm = goal.norm(dim=1).clamp(min=_LEAST)
    columns: dict[str, list[Tensor]] = {name: [] for name in TrajectorySizes._fields if name != "last"}
    before = first
    for k, value in enumerate(values):
        fine = all_finite(value)
        x = value.double() if fine else _finite(value)
        columns["bad"].append(
            torch.zeros(len(x), dtype=torch.bool, device=x.device) if fine else ~value.isfinite().all(1)
        )
        columns["norm"].append(norm := x.norm(dim=1))
        if k:
            columns["step"].append((x - before).norm(dim=1))
        columns["away"].append((x - first).norm(dim=1))
        columns["left"].append(left := (x - end).norm(dim=1))
        if target is not None:
            columns["distance"].append(left if same else (x - goal).norm(dim=1))
            columns["cosine"].append((x * goal).sum(1) / (norm.clamp(min=_LEAST) * goal_norm))
        before = x
    stacked = {name: torch.stack(column) for name, column in columns.items() if column}
    nothing = torch.empty(0, len(first), dtype=torch.float64, device=first.device)
    return TrajectorySizes(**{"distance": nothing, "cosine": nothing, "step": nothing, "last": end} | stacked)


def _finite(x: Tensor) -> Float[Tensor, "row width"]:
    """In double precision, with zeros for what isn't finite."""
    return torch.nan_to_num(x.double(), 0.0, 0.0, 0.0)
