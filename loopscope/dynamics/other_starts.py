"""Starts of a loop other than the model's own, the same for all analyses of the map."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..common.rng import mixed
from .iteration_map import IterationMap
from .limit_point import Limit

NEAR_ZERO = 1e-2
"""Size of the start near zero, over that of the end. Zero itself may be a fixed point that nothing
else comes to."""


def other_starts(
    loop: IterationMap, limit: Limit, *, exchanged: int, random: int, seed: int
) -> dict[str, Float[Tensor, "example start free"]]:
    """Starts by kind, of the numbers that a start may set (`IterationMap.start_mask`): the ends of
    `exchanged` other examples, one near zero, and normal numbers of the ends' root mean square."""
    free, ends = loop.start_mask(), settled_ends(limit)
    ends = ends[:, free.to(ends.device)]
    generator = torch.Generator().manual_seed(mixed(seed, 2))
    size = ends.square().mean(1, keepdim=True).sqrt()
    size = torch.where(size > 0, size, torch.ones_like(size))[:, None]
    drawn = torch.randn(len(ends), 1 + random, ends.shape[1], generator=generator, dtype=torch.float64)
    drawn = size * drawn.to(ends)
    kinds = {}
    several = min(exchanged, len(ends) - 1)
    if several:
        kinds["exchanged"] = torch.stack([ends.roll(-shift, 0) for shift in range(1, several + 1)], 1)
    kinds["zero"] = NEAR_ZERO * drawn[:, :1]
    if random:
        kinds["random"] = drawn[:, 1:]
    return kinds


def settled_ends(limit: Limit) -> Float[Tensor, "row width"]:
    """Where each row ends; its first state where it diverges."""
    begin, end = (torch.nan_to_num(limit.states[k], 0.0, 0.0, 0.0) for k in (0, -1))
    return torch.where(limit.diverges[:, None].to(end.device), begin, end)
