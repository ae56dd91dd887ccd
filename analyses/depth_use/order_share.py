"""How much of the difference between difficulties is in their order."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def order_share(
    level: Float[Tensor, " item"], values: Float[Tensor, " item"], *, rising: bool
) -> tuple[float, float]:
    """How the means at the difficulties follow a monotone curve, which a slope alone doesn't say: a
    zigzag with a trend has one, too.

    The monotone curve is the isotonic regression of the means, each with its number of items as
    weight (Barlow et al. 1972). From what it leaves over, what the spread of items within a
    difficulty makes by chance is subtracted.

    Arguments:
        level: the difficulty of each item.
        values: NaN for an item that has none.
        rising: whether the curve may only rise, or only fall.

    Returns:
        the share of the sum of squares between difficulties that the curve has, 0..1, NaN where
        there is no difference; and the root mean square of what it leaves over, over items.
    """
    from scipy.optimize import isotonic_regression

    known = ~values.isnan()
    levels, index, count = level[known].unique(return_inverse=True, return_counts=True)
    if len(levels) < 2:
        return math.nan, math.nan
    y, n = values[known].double(), count.double()
    mean = torch.zeros(len(levels), dtype=torch.float64).index_add(0, index, y) / n
    fit = isotonic_regression(mean.numpy(), weights=n.numpy(), increasing=rising)
    curve = torch.from_numpy(fit.x.copy()).double()  # of a falling curve it runs backwards
    within = float((y - mean[index]).square().sum()) / max(1, len(y) - len(levels))
    ordered = float((n * (curve - y.mean()).square()).sum())
    rest = max(0.0, float((n * (mean - curve).square()).sum()) - (len(levels) - 1) * within)
    whole = ordered + rest
    return (ordered / whole if whole > 1e-12 else math.nan), math.sqrt(rest / len(y))
