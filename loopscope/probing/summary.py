"""Probes as a paragraph."""

import math
from typing import TYPE_CHECKING

from ..common.text import number, percent

if TYPE_CHECKING:
    from .probes import Probes


def summary(probes: "Probes") -> str:
    """What was found where it is best, site by site, with everything that has to stand beside
    it."""
    quantity = "accuracy" if probes.kind == "classes" else "R²"
    lines = [
        f"Linear probes for {_asked(probes)}; {probes.groups} groups of examples in {probes.folds} folds, "
        f"scores on groups held out. Random features: {probes.features}."
    ]
    for s, site in enumerate(probes.sites):
        grid = probes.score[s].nan_to_num(-math.inf)
        if grid.max() == -math.inf:
            continue
        k, p = divmod(int(grid.argmax()), grid.shape[1])
        here, where = (s, k, p), _where(probes.positions[p])
        low, high = (told(probes, float(one[here])) for one in (probes.low, probes.high))
        compared = {
            "control labels": probes.control,
            "random features": probes.random,
            "majority": probes.majority,
            "from what is told beside": probes.baseline,
        }
        parts = [
            f"{name} {told(probes, float(v[here]))}" for name, v in compared.items() if not v[here].isnan()
        ]
        lines.append(
            f"'{site}': {quantity} is best at iteration {probes.iterations[k]}{where}, "
            f"{told(probes, float(probes.score[here]))} (95 % interval {low} to {high}, "
            f"{int(probes.rows[here])} rows; {', '.join(parts)}; selectivity "
            f"{number(float(probes.selectivity[here]), 2)}). {_when(probes, s)}"
        )
    return " ".join([*lines, *probes.notes])


def told(probes: "Probes", value: float) -> str:
    return percent(value) if probes.kind == "classes" else number(value, 2)


def _when(probes: "Probes", site: int) -> str:
    """Where it is above everything that stands beside it; of many probes some are so by chance."""
    held, tried = probes.learned[site], int((~probes.score[site].isnan()).sum())
    by_chance = f", where about {tried / 40:.0f} would be by chance" if tried >= 20 else ""
    if not bool(held.any()):
        return "None is above all of these."
    late = held.any(1).tolist()
    first = late.index(True)
    if held.shape[1] == 1 and all(late[first:]):
        return f"It is above all of these from iteration {probes.iterations[first]} on."
    return f"{int(held.sum())} of {tried} probes are above all of these{by_chance}."


def _asked(probes: "Probes") -> str:
    if probes.kind == "numbers":
        return "a number"
    shown = ", ".join(map(str, probes.classes[:6])) + (" ..." if len(probes.classes) > 6 else "")
    return f"{len(probes.classes)} classes ({shown})"


def _where(position: int | str) -> str:
    return f", position {position}" if isinstance(position, int) else ""
