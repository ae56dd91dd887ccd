"""Confidence intervals over groups of rows: rows of one example are no independent witnesses."""

import numpy as np
from numpy import ndarray as Array

LEVEL = 0.95
_DRAWS = 400


def of_share(hits: Array, rows: Array) -> tuple[float, float]:
    """Interval of a share of hits, from the hits and rows of each group, (group) both.

    Wilson's interval (1927) with as many independent rows as the spread between groups leaves (its variance as a ratio of sums,
    Cochran 1977, at most all of them; as many as there are groups where they don't differ), and Student's quantile for so many
    groups, as Korn & Graubard (1998) do.
    """
    from scipy.stats import t

    seen = rows > 0
    hits, rows = hits[seen], rows[seen]
    groups, total = len(rows), float(rows.sum())
    if groups < 2:
        return 0.0, 1.0
    p = float(hits.sum()) / total
    variance = float(((hits - p * rows) ** 2).sum()) / total**2 * groups / (groups - 1)
    n = min(total, p * (1 - p) / variance) if variance > 0 else float(groups)
    z = float(t.ppf(0.5 + LEVEL / 2, groups - 1))
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return max(0.0, float((middle - half) / scale)), min(1.0, float((middle + half) / scale))


def of_r2(error: Array, y: Array, yy: Array, rows: Array, seed: int) -> tuple[float, float]:
    """Interval of R², by drawing whole groups anew (Efron's bootstrap, percentiles).

    Arguments:
        error, y, yy, rows: (group): the sums of squared errors, of y and of y², and the rows.
    """
    seen = rows > 0
    sums = np.stack([error, y, yy, rows.astype(float)])[:, seen]
    groups = sums.shape[1]
    if groups < 2:
        return -np.inf, 1.0
    drawn = np.random.default_rng([seed, 9]).multinomial(groups, np.full(groups, 1 / groups), _DRAWS)
    found = r2(*(sums @ drawn.T))
    low, high = np.quantile(found[np.isfinite(found)], [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return float(low), float(high)


def r2(error: Array, y: Array, yy: Array, rows: Array) -> Array:
    """1 - squared errors / squares about the mean."""
    spread = yy - y**2 / np.maximum(rows, 1)
    return np.where(spread > 0, 1 - error / np.where(spread > 0, spread, 1), np.nan)
