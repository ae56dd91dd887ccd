"""When each example, and each of its positions, reaches its fixed point, and at which rate."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.limit_point import Limit
from loopscope.maths.precision import resolution, rounding


def reached_from(
    gaps: Float[Tensor, "state *rows width"], within: Float[Tensor, "*rows"], first: int
) -> Int[Tensor, "*rows"]:
    """The k from which on ‖gap‖ stays within a distance; -1 if it isn't at the end.

    Arguments:
        first: the k of the first gap.
    """
    near = gaps.norm(dim=-1) <= within
    stays = near.flip(0).int().cummin(0).values.flip(0).bool()
    return torch.where(stays[-1], first + stays.int().argmax(0), -1).cpu()


def times_and_rates_by_position(
    loop: IterationMap, limit: Limit, merge_distance: float
) -> tuple[Int[Tensor, "example position"], Float[Tensor, "example position"]]:
    """From which k on each position is at its fixed point, and its own rate."""
    point = loop.primary(limit.point)
    examples, positions, width = len(point), loop.positions or 1, point.shape[2]
    gaps = torch.stack([loop.primary(x) for x in limit.states]) - point
    size = torch.maximum(point.norm(dim=2), 1e-2 * limit.size[:, None] / positions**0.5)
    level = rounding(point.norm(dim=2), resolution(gaps.dtype))
    size = size * (limit.scale / limit.size)[:, None]  # of the range, where that is less than the norm
    reached = reached_from(gaps, torch.maximum(merge_distance * size, level), limit.first)
    if positions == 1:
        return reached, torch.tensor([[limit.rate(row).value] for row in range(examples)])
    rates = torch.full((examples, positions), float("nan"))
    for row in range(examples):
        for p in range(positions):
            part = torch.arange(p * width, (p + 1) * width, device=point.device)
            rates[row, p] = limit.rate(row, part).value
    return reached, rates
