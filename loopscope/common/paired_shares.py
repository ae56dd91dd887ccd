"""The difference of two shares of the same examples, such as the accuracies of two models on one
test set, with its interval."""

import math
from statistics import NormalDist

from .evidence import LEVEL, Estimate


def paired_difference(name: str, gained: int, lost: int, total: int) -> Estimate:
    """The difference of two shares of the same examples, with its 95 % interval by the adjusted
    method of Agresti and Min (2005, Statistics in Medicine 24, 729): Wald's, with half an example
    more in each of the four cells. So it isn't empty where no example differs.

    Arguments:
        gained: examples in the second share only.
        lost: examples in the first share only.
        total: all examples; NaN for none.
    """
    if not total:
        return Estimate(name, math.nan, math.nan, math.nan)
    more, less, count = gained + 0.5, lost + 0.5, total + 2
    centre = (more - less) / count
    error = math.sqrt(more + less - (more - less) ** 2 / count) / count
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * error
    return Estimate(name, (gained - lost) / total, centre - reach, centre + reach)
