"""Which examples count in the average effect of a patch, and patches at positions that count."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ..dynamics.counted_part import CountedPart
from ..runs.location import Place
from ..runs.run import Run
from ..runs.run_mask import with_more_positions
from .replacements import Noise, Replacement


def replaceable(run: Run, replacement: Any) -> Bool[Tensor, "batch position"]:
    """Where a replacement means something: where the position counts, in a donor too, and for a
    mean in two examples or more."""
    mask = run.mask
    if isinstance(replacement, Run) and replacement.mask.shape in ((1, mask.shape[1]), mask.shape):
        return mask & replacement.mask  # a donor may be a batch of one
    if isinstance(replacement, str) and replacement == "mean":
        return mask & (mask.sum(0) > 1)
    return mask


def counted_groups(
    run: Run, mask: Bool[Tensor, "batch position"], groups: Sequence[Sequence[int]], size: int | None
) -> Bool[Tensor, "group batch"]:
    """Which examples count for each group of positions that are patched jointly.

    Arguments:
        mask: as from `replaceable`.
        groups: numbers of positions; an empty group is all of them, which needs a replacement
            wherever the example counts.
        size: positions of the sites; None for sites without.
    """
    whole = mask.any(1) & ~(run.mask & ~mask).any(1)
    wide = with_more_positions(mask, size or 0)
    return torch.stack(
        [whole if not group or size is None else wide[:, list(group)].any(1) for group in groups]
    )


def unpadded_replacement(replacement: Replacement, mask: Bool[Tensor, "batch position"]) -> Replacement:
    """The replacement, with no influence of padding: noise is drawn for the positions that count
    alone, and where others would get NaN or infinity they keep their value."""
    if bool(mask.all()):
        return replacement

    def replaced(place: Place, iteration: int, value: Tensor) -> Tensor:
        batch, position = place.axis("batch"), place.axis("position")
        if batch != 0 or position is None or len(value) != len(mask):
            return replacement(place, iteration, value)
        wide = with_more_positions(mask, value.shape[position]).to(value.device)
        if isinstance(replacement, Noise) and position == 1:
            part = CountedPart(wide)
            return part.put(replacement(place, iteration, part.take(value)), value)
        counted = wide.reshape([n if i in (0, position) else 1 for i, n in enumerate(value.shape)])
        new = replacement(place, iteration, value)
        return torch.where(counted | new.isfinite(), new, value)

    return replaced


def finite_estimate(estimate: Tensor, place: Place, mask: Bool[Tensor, "batch position"]) -> Tensor:
    """First-order effects (batch, position, ...), with 0 in place of NaN where nothing counts."""
    if "position" not in place.axes or bool(mask.all()):
        return estimate
    wide = with_more_positions(mask, estimate.shape[1]).to(estimate.device)
    wide = wide.reshape(*wide.shape, *(1,) * (estimate.ndim - 2))
    return torch.where(wide | estimate.isfinite(), estimate, 0)
