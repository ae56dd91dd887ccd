"""Wilson's score interval of a share (1927).

scipy.stats has it, too, but its import takes longer than everything that a page does with shares.
"""

import math
from statistics import NormalDist


def wilson_interval(hits: int, total: int, level: float) -> tuple[float, float]:
    """The interval in which the share of very many is expected.

    Arguments:
        hits: of `total` trials, of which there is one at least.
        level: the probability that it holds the share.
    """
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    share, scale = hits / total, 1 + z2 / total
    centre = (share + z2 / (2 * total)) / scale
    half = math.sqrt(z2 * (share * (1 - share) / total + z2 / (4 * total**2))) / scale
    return 0.0 if hits == 0 else centre - half, 1.0 if hits == total else centre + half
