"""Where the effect of an intervention falls, summed over pairs of positions, example by example."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopscope.common.sample_memory import once_per_sample

from .distances import PositionDistances

NEGLIGIBLE, ROUNDING = 1e-6, 1e-9


@dataclass(frozen=True)
class EffectSums:
    """Sums of the effect over patched and read positions."""

    whole: Float[Tensor, "after example"]
    others: Float[Tensor, "after example"]
    """On other positions."""
    near: Float[Tensor, "after example"]
    """On neighbours."""
    near_if_uniform: Float[Tensor, "after example"]
    """The same if each intervention affected all positions alike that can be reached."""
    distance: Float[Tensor, "after example"]
    """On other positions, times their distance."""
    distance_if_uniform: Float[Tensor, "after example"]
    by_distance: Float[Tensor, "after example distance"]
    """At each distance 0, 1, 2 ..."""
    causal: bool
    """Whether no position affects an earlier one."""

    @classmethod
    def of(
        cls,
        effect: Float[Tensor, "after batch patched read"],
        geometry: PositionDistances,
        pairs: Bool[Tensor, "batch patched read"],
    ) -> "EffectSums":
        """The sums of an effect. `pairs`: of positions that both count."""
        distance, (others, causal) = geometry.distance, _reachable(effect, geometry.distance)
        reachable = others & pairs
        near = reachable & (distance == 1)
        on_others = effect * reachable
        by_source = on_others.sum(3)  # (after, batch, patched)
        lengths = torch.where(reachable, distance, 0.0)
        count = reachable.sum(2).clamp(min=1)
        farthest = int(distance[torch.isfinite(distance) & pairs.any(0)].max())
        shares = [(effect * (distance == d)).sum((2, 3)) for d in range(farthest + 1)]
        return cls(
            whole=effect.sum((2, 3)),
            others=by_source.sum(2),
            near=(effect * near).sum((2, 3)),
            near_if_uniform=(by_source * near.sum(2) / count).sum(2),
            distance=(on_others * lengths).sum((2, 3)),
            distance_if_uniform=(by_source * lengths.sum(2) / count).sum(2),
            by_distance=torch.stack(shares, 2),
            causal=causal,
        )

    def spread(self, rows: Tensor | None = None) -> "Spread":
        """Where the effect falls in these examples, some of them repeated; None: in all."""
        return self._spread_of(torch.arange(self.whole.shape[1]) if rows is None else rows)

    @cached_property
    def _spread_of(self) -> "Callable[[Tensor], Spread]":
        return once_per_sample(self._spread)

    def _spread(self, rows: Tensor) -> "Spread":
        def total(values: Tensor) -> Tensor:
            return values[:, rows].double().sum(1)

        whole, others = total(self.whole), total(self.others)
        negligible = others <= NEGLIGIBLE * whole.max()

        def share(part: Tensor, base: Tensor) -> Float[Tensor, " after"]:
            return torch.where(negligible, torch.nan, total(part) / base).float()

        return Spread(
            locality=share(self.near, total(self.near_if_uniform)),
            distance=share(self.distance, others),
            chance=share(self.distance_if_uniform, others),
            self_share=(1 - others / whole).clamp(0, 1).float(),
            is_finite=bool(whole.isfinite().all()),
        )


@dataclass(frozen=True)
class Spread:
    """Where the effect falls, in some examples."""

    locality: Float[Tensor, " after"]
    """Share of the effect on others that falls on neighbours, over that of a uniform effect; NaN
    where there is no effect on others."""
    distance: Float[Tensor, " after"]
    """Mean distance of the effect on others."""
    chance: Float[Tensor, " after"]
    """The same if the effect were uniform over all reachable positions."""
    self_share: Float[Tensor, " after"]
    """Share of the effect at the patched position itself, 0..1."""
    is_finite: bool
    """Whether every effect is finite."""


def _reachable(effect: Tensor, distance: Tensor) -> tuple[Bool[Tensor, "patched read"], bool]:
    """Which other positions can be affected at all, and whether these are later ones only."""
    affected = effect.sum((0, 1))  # (patched, read)
    affected = affected > ROUNDING * affected.max()
    causal = not bool(affected.tril(-1).any()) and bool(affected.triu(1).any())
    others = ~torch.eye(len(distance), dtype=torch.bool) & torch.isfinite(distance)
    return (others.triu() if causal else others), causal
