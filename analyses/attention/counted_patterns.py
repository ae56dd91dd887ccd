"""Attention among the positions that count, example by example."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LOST = 1e-3
"""More attention than this share on positions that don't count is mentioned."""


@dataclass(frozen=True)
class CountedPatterns:
    """Patterns of the examples that count somewhere, by iteration and layer."""

    x: Float[Tensor, "iteration layer batch head query key"]
    """Zero where the query or the key doesn't count."""
    mask: Bool[Tensor, "batch position"]
    """Which positions count."""
    lost: float
    """Share of the attention of queries that count that goes to keys that don't, 0..1."""

    @classmethod
    def of(cls, patterns: Tensor, mask: Bool[Tensor, "batch position"]) -> "CountedPatterns":
        """The part of all patterns that counts."""
        rows = mask.any(1)
        patterns, mask = patterns[:, :, rows.to(patterns.device)], mask[rows].to(patterns.device)
        if bool(mask.all()):
            return cls(patterns, mask, 0.0)
        queries = torch.where(mask[:, None, :, None], patterns, torch.zeros_like(patterns))
        x = torch.where(mask[:, None, None, :], queries, torch.zeros_like(queries))
        return cls(x, mask, float((queries - x).sum() / queries.sum().clamp(min=1e-30)))

    def each(self, measure: Callable[[Tensor], Tensor]) -> Tensor:
        """A measure of the pattern of each example, on the positions that count alone: (iteration,
        layer, batch, ...)."""
        if bool(self.mask.all()):
            return measure(self.x)
        parts = []
        for row, mask in enumerate(self.mask):
            parts.append(measure(self.x[:, :, row : row + 1, :, mask][..., mask]))
        return torch.cat(parts, 2)

    @property
    def lengths(self) -> list[int]:
        """How many positions count in each example."""
        return self.mask.sum(1).tolist()
