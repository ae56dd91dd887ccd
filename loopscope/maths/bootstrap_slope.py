"""The slope of one quantity against another, with a confidence interval from resampling whole
groups, and the slopes expected by chance."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..common.arguments import PositiveCount, Seed
from ..common.guard import guarded
from .ranks import centred_ranks

DRAWS = 1000
"""Bootstrap samples."""
SHUFFLES = 200
"""Permutations of x, for the slopes expected by chance."""


@dataclass(frozen=True)
class Slope:
    """A least-squares slope, in units of y for one unit of x. NaN where x or y doesn't vary or
    is NaN everywhere."""

    slope: float
    low: float
    """Lower end of the 95 % interval: percentiles of slopes on groups drawn with replacement (Efron
    1979)."""
    high: float
    """Upper end."""
    correlation: float
    """Spearman's rank correlation."""
    shuffled: tuple[float, float]
    """The middle 95 % of slopes with x permuted: those expected by chance. x is permuted among the
    groups where it is constant in each of them, else among all items."""
    items: int
    """Items without NaN."""
    groups: int
    """Groups of these items."""
    correlation_interval: tuple[float, float] = (math.nan, math.nan)
    """The 95 % interval of the rank correlation, from the same kind of samples."""
    shuffled_correlation: tuple[float, float] = (math.nan, math.nan)
    """The middle 95 % of rank correlations with x permuted."""

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the rank correlation lies outside those with x permuted; False for NaN."""
        low, high = self.shuffled_correlation
        return self.correlation < low or self.correlation > high


@guarded
def slope(
    x: Float[Tensor, " item"],
    y: Float[Tensor, " item"],
    group: Int[Tensor, " item"],
    seed: Seed = 0,
    *,
    draws: PositiveCount = DRAWS,
) -> Slope:
    """The slope of y against x, over the items where neither is NaN.

    >>> x = torch.arange(10.0)
    >>> slope(x, 2 * x, torch.arange(10)).slope
    2.0

    Arguments:
        group: items of one group are resampled together, since they aren't independent, such as the
            answers of one example.
        seed: of the resampling.
        draws: bootstrap samples.
    """
    valid = ~(y.isnan() | x.isnan())
    x, y, group = x[valid].double(), y[valid].double(), group[valid]
    _, number = group.unique(return_inverse=True)
    groups = int(number.max()) + 1 if len(number) else 0
    if len(x) < 2 or float(x.var()) == 0:
        nan = math.nan
        return Slope(nan, nan, nan, nan, (nan, nan), len(x), groups)
    generator = torch.Generator().manual_seed(seed)
    x, y = x - x.mean(), y - y.mean()
    sums = torch.zeros(groups, 5, dtype=torch.float64)
    sums.index_add_(0, number, torch.stack([torch.ones_like(x), x, y, x * x, x * y], 1))
    sample = torch.randint(0, groups, (draws, groups), generator=generator)
    times = torch.zeros(draws, groups, dtype=torch.float64).scatter_add_(
        1, sample, torch.ones(sample.shape, dtype=torch.float64)
    )
    each = _slopes(times @ sums)
    each = each[each.isfinite()]  # a sample in which x doesn't vary has no slope
    permuted = _permuted(x, number, generator)
    chance = ((permuted - permuted.mean(1, keepdim=True)) * y).sum(1) / x.square().sum()
    rank_x, rank_y = centred_ranks(x), centred_ranks(y)
    ranks = torch.stack([torch.ones_like(x), rank_x, rank_y, rank_x**2, rank_x * rank_y, rank_y**2], 1)
    by_group = torch.zeros(groups, 6, dtype=torch.float64).index_add_(0, number, ranks)
    correlations = _correlations(times @ by_group)
    correlations = correlations[correlations.isfinite()]
    shuffled = [_pearson(centred_ranks(row), rank_y) for row in permuted] if float(y.var()) > 0 else []
    by_chance = torch.tensor(shuffled, dtype=torch.float64)
    return Slope(
        slope=float(_slopes(sums.sum(0))),
        low=_quantile(each, 0.025),
        high=_quantile(each, 0.975),
        correlation=_spearman(x, y),
        shuffled=(_quantile(chance, 0.025), _quantile(chance, 0.975)),
        items=len(x),
        groups=groups,
        correlation_interval=(_quantile(correlations, 0.025), _quantile(correlations, 0.975)),
        shuffled_correlation=(_quantile(by_chance, 0.025), _quantile(by_chance, 0.975)),
    )


def _permuted(
    x: Tensor, group: Int[Tensor, " item"], generator: torch.Generator
) -> Float[Tensor, "sample item"]:
    """x permuted: among the groups where it is constant in each, as their items belong together."""
    groups = int(group.max()) + 1
    value = torch.zeros(groups, dtype=x.dtype).scatter(0, group, x)
    if bool((value[group] == x).all()):
        return value[torch.rand(SHUFFLES, groups, generator=generator).argsort(1)][:, group]
    return x[torch.rand(SHUFFLES, len(x), generator=generator).argsort(1)]


def _slopes(sums: Float[Tensor, "... 5"]) -> Float[Tensor, "..."]:
    count, x, y, xx, xy = sums.unbind(-1)
    spread = xx - x * x / count
    return ((xy - x * y / count) / spread).where(spread > 1e-12 * xx.clamp(min=1e-300), math.nan)


def _quantile(values: Tensor, q: float) -> float:
    return float(values.quantile(q)) if len(values) > 1 else math.nan


def _spearman(x: Tensor, y: Tensor) -> float:
    return _pearson(centred_ranks(x), centred_ranks(y)) if float(y.var()) > 0 else math.nan


def _pearson(x: Tensor, y: Tensor) -> float:
    return float((x * y).sum() / (x.norm() * y.norm()))


def _correlations(sums: Float[Tensor, "sample 6"]) -> Float[Tensor, " sample"]:
    """Of sums of 1, x, y, x², xy, y²; NaN where one of the two doesn't vary."""
    count, x, y, xx, xy, yy = sums.unbind(-1)
    product = (xx - x * x / count) * (yy - y * y / count)
    return ((xy - x * y / count) / product.clamp(min=0).sqrt()).where(product > 1e-9, math.nan)
