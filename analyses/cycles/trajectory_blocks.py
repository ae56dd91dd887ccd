"""What is measured of every trajectory of a run, block by block, so that no copy of all states is
made."""

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopscope.core.states import States
from loopscope.maths.late_motion import late_motion_of
from loopscope.maths.precision import resolution
from loopscope.maths.trajectory_features import Features
from loopscope.maths.trajectory_kind import join_features, measure_features
from loopscope.maths.trajectory_sizes import trajectory_sizes
from loopscope.runs.blocks import Block, block_values, spread_of_vectors
from loopscope.runs.chunked import chosen_blocks, map_blocks

_TOLERANCE = 1e-3
"""Of the last steps, as convergence has it by default: both then say the same of rest."""


class MeasuredTrajectories(NamedTuple):
    """The trajectories of the positions that count, in the order of the mask."""

    features: Features
    motion: Int[Tensor, " row"]
    """The number of the late motion, in LATE_MOTIONS."""


def measured_trajectories(states: States, mask: Bool[Tensor, "batch position"]) -> MeasuredTrajectories:
    """The features and the late motion of each trajectory."""
    blocks, labels = chosen_blocks(states), states.iterations
    across = spread_of_vectors(states, labels[-1], mask, blocks)
    eps = resolution(states[labels[0]].dtype)
    counted = [block for block in blocks if bool(mask[block.rows, block.positions].any())]
    measured = map_blocks(
        partial(_measured, eps, across), lambda block: block_values(states, block, mask), counted
    )
    parts = [part for _, part in measured]
    return MeasuredTrajectories(
        join_features([p.features for p in parts]), torch.cat([p.motion for p in parts])
    )


def _measured(eps: float, across: float, values: list[Tensor]) -> MeasuredTrajectories:
    motion = late_motion_of(trajectory_sizes(values), _TOLERANCE, eps, across).code
    x = torch.stack([value.to(values[0].device) for value in values])
    return MeasuredTrajectories(measure_features(x, noisy=False, across=across), motion)


def trajectory(states: States, example: int, position: int) -> Float[Tensor, "state width"]:
    """One trajectory."""
    block = Block(slice(example, example + 1), slice(position, position + 1))
    every = torch.ones(example + 1, position + 1, dtype=torch.bool)
    return torch.cat([value.to("cpu", copy=True) for value in block_values(states, block, every)])
