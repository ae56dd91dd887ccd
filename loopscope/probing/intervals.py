"""Confidence intervals over groups of rows: rows of one example are not independent.

Scores of cross-validation vary more than the number of rows suggests, because the probes of all
folds are trained on nearly the same examples. Nadeau & Bengio 2003 ("Inference for the
Generalization Error") multiply the variance by 1 + k/(k - 1) with k folds; it cannot be estimated
without bias from one run (Bengio & Grandvalet 2004). Measured on planted data it is half as much
again to nearly twice the variance where there is little to read, and no more than the rows tell
where the probe is sure (200 and 1,000 examples, 8 and 64 features, five folds). So their factor is
used at chance and falls to 1 at a perfect score.
"""

import numpy as np
from numpy import ndarray as Array

LEVEL = 0.95
_DRAWS = 400


def variance_factor(score: float, chance: float, folds: int) -> float:
    """The factor by which the variance of a cross-validated score exceeds that of independent rows;
    see above. 1 without folds."""
    if folds < 2:
        return 1.0
    unsure = min(1.0, max(0.0, (1 - score) / (1 - chance))) if chance < 1 else 0.0
    return 1 + unsure * folds / (folds - 1)


def share_interval(hits: Array, rows: Array, chance: float = 0.0, folds: int = 0) -> tuple[float, float]:
    """95 % interval of a fraction of hits, from the hits and rows of each group, (group) both.

    Arguments:
        chance, folds: of probes whose scores come from cross-validation, with this number of folds.

    Wilson's interval (1927) with as many independent rows as the spread between groups leaves (its
    variance as a ratio of sums, Cochran 1977, at most all of them; as many as there are groups
    where they don't differ), and Student's quantile for this number of groups, as Korn & Graubard
    (1998) do.
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
    n = n / variance_factor(p, chance, folds)
    z = float(t.ppf(0.5 + LEVEL / 2, groups - 1))
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return max(0.0, float((middle - half) / scale)), min(1.0, float((middle + half) / scale))


def r2_interval(
    error: Array, y: Array, yy: Array, rows: Array, *, seed: int, folds: int = 0
) -> tuple[float, float]:
    """95 % interval of R², by a percentile bootstrap over groups (Efron).

    Where R² is hardly above 0 its upper end is too low in up to one case in seven (measured); its
    lower end is not too high.

    Arguments:
        error, y, yy, rows: (group): the sums of squared errors, of y and of y², and the rows.
        folds: of probes whose scores come from cross-validation.
    """
    seen = rows > 0
    sums = np.stack([error, y, yy, rows.astype(float)])[:, seen]
    groups = sums.shape[1]
    if groups < 2:
        return -np.inf, 1.0
    drawn = np.random.default_rng([seed, 9]).multinomial(groups, np.full(groups, 1 / groups), _DRAWS)
    error, y, yy, rows = sums @ drawn.T
    result = r2(error, y, yy, rows)
    low, high = np.quantile(result[np.isfinite(result)], [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    score = float(r2(*sums.sum(1)))
    wider = np.sqrt(variance_factor(score, 0.0, folds))
    return score - wider * (score - float(low)), min(1.0, score + wider * (float(high) - score))


def r2(error: Array, y: Array, yy: Array, rows: Array) -> Array:
    """1 - squared errors / squares about the mean."""
    spread = yy - y**2 / np.maximum(rows, 1)
    return np.where(spread > 0, 1 - error / np.where(spread > 0, spread, 1), np.nan)
