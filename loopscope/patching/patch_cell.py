"""One cell of a grid of patches: which sites, iteration, positions and heads are replaced in one
forward pass."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from ..runs.location import Place


@dataclass(frozen=True)
class PatchCell:
    """What one patched forward pass replaces: one or several places, at one iteration, at some
    positions and heads."""

    places: tuple[Place, ...]
    """Replaced jointly."""
    iteration: int
    """t of a site inside the body; k of `state`."""
    positions: tuple[int, ...] | None
    """None: all, or a site without positions."""
    heads: tuple[int, ...] | None = None
    """None: all, or a site without heads."""

    def mask(self, place: Place, value: Tensor) -> Bool[Tensor, "..."]:
        """Which elements of a place's value are replaced; it broadcasts to the value."""
        mask = torch.ones([1] * value.ndim, dtype=torch.bool, device=value.device)
        for name, indices in (("position", self.positions), ("head", self.heads)):
            axis = place.axis(name)
            if indices is None or axis is None:
                continue
            along = torch.zeros(value.shape[axis], dtype=torch.bool, device=value.device)
            along[list(indices)] = True
            mask = mask & along.reshape([-1 if i == axis else 1 for i in range(value.ndim)])
        return mask
