"""A paragraph about probes."""

import math

from ..common.text import number, percent
from .probe_result import ProbeResult


def summary(probes: ProbeResult) -> str:
    """For each site the best score, with its interval and its controls."""
    quantity = "accuracy" if probes.kind == "classes" else "R²"
    lines = [
        f"Linear probes for {_labels_text(probes)}; {probes.groups} groups of examples in {probes.folds} "
        f"folds, scores on held-out groups. Random features: {probes.features}."
    ]
    for s, site in enumerate(probes.sites):
        grid = probes.score[s].nan_to_num(-math.inf)
        if grid.max() == -math.inf:
            continue
        k, p = divmod(int(grid.argmax()), grid.shape[1])
        here, where = (s, k, p), _where(probes.positions[p])
        low, high = (score_text(probes, float(one[here])) for one in (probes.low, probes.high))
        compared = {
            "control labels": probes.control,
            "random features": probes.random,
            "majority": probes.majority,
            "baseline labels": probes.baseline,
        }
        parts = [
            f"{name} {score_text(probes, float(v[here]))}"
            for name, v in compared.items()
            if not v[here].isnan()
        ]
        lines.append(
            f"'{site}': {quantity} is best at iteration {probes.iterations[k]}{where}, "
            f"{score_text(probes, float(probes.score[here]))} (95 % interval {low} to {high}, "
            f"{int(probes.rows[here])} rows; {', '.join(parts)}; selectivity "
            f"{number(float(probes.selectivity[here]), 2)}). {_when(probes, s)}"
        )
    return " ".join([*lines, *probes.notes])


def score_text(probes: ProbeResult, value: float) -> str:
    """An accuracy as a percentage, R² as a number."""
    return percent(value) if probes.kind == "classes" else number(value, 2)


def _when(probes: ProbeResult, site: int) -> str:
    """The iterations whose score is above all controls; of many probes some are so by chance."""
    above, tried = probes.learned[site], int((~probes.score[site].isnan()).sum())
    by_chance = f", where about {tried / 40:.0f} would be by chance" if tried >= 20 else ""
    if not bool(above.any()):
        return "None is above all of these."
    late = above.any(1).tolist()
    first = late.index(True)
    if above.shape[1] == 1 and all(late[first:]):
        return f"It is above all of these from iteration {probes.iterations[first]} on."
    return f"{int(above.sum())} of {tried} probes are above all of these{by_chance}."


def _labels_text(probes: ProbeResult) -> str:
    if probes.kind == "numbers":
        return "a number"
    names = ", ".join(map(str, probes.classes[:6])) + (" ..." if len(probes.classes) > 6 else "")
    return f"{len(probes.classes)} classes ({names})"


def _where(position: int | str) -> str:
    return f", position {position}" if isinstance(position, int) else ""
