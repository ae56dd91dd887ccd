"""How trajectories bend: the angles between their successive steps, block by block."""

from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.core.states import States
from loopscope.maths.precision import rest_level
from loopscope.maths.trajectory_sizes import trajectory_sizes
from loopscope.runs.blocks import Block, block_values
from loopscope.runs.chunked import chosen_blocks, map_blocks

_TINY = 1e-300


def step_angles(states: States, mask: Bool[Tensor, "batch position"], eps: float) -> Float[Tensor, " turn"]:
    """The mean angle between successive steps over the trajectories that move, radians; NaN where
    none does.

    Arguments:
        eps: machine epsilon of the states as they were recorded.
    """

    def read(block: Block) -> list[Tensor]:
        return block_values(states, block, mask)

    total = count = torch.zeros(max(0, len(states.iterations) - 2), dtype=torch.float64)
    for _, (angles, moving) in map_blocks(partial(_angle_sums, eps), read, chosen_blocks(states)):
        total, count = total + angles.cpu(), count + moving.cpu()
    return total / torch.where(count > 0, count, torch.nan)


def _angle_sums(eps: float, values: list[Tensor]) -> tuple[Float[Tensor, " turn"], Float[Tensor, " turn"]]:
    """(the sum of the angles over the trajectories that move, how many these are)"""
    sizes = trajectory_sizes(values)
    span = sizes.left.amax(0).expand_as(sizes.step)
    moves = sizes.step > rest_level(sizes.norm[1:], span, eps)
    valid = moves[1:] & moves[:-1]
    length = sizes.step.clamp(min=_TINY)
    angles, before = [], values[1].double() - values[0].double()
    for t in range(len(values) - 2):
        after = values[t + 2].double() - values[t + 1].double()
        cosine = ((before / length[t][:, None]) * (after / length[t + 1][:, None])).sum(1)
        angles.append(torch.where(valid[t], cosine.clamp(-1, 1).acos(), 0).sum())
        before = after
    return torch.stack(angles) if angles else torch.empty(0).double(), valid.sum(1).double()
