"""Probes as a paragraph."""

import math
from typing import TYPE_CHECKING

from ..drawing import number, percent

if TYPE_CHECKING:
    from .probes import Probes


def summary(probes: "Probes") -> str:
    """What was found where it is best, site by site, with everything that has to stand beside it."""
    quantity = "accuracy" if probes.kind == "classes" else "R²"
    lines = [
        f"Linear probes for {_asked(probes)}; {probes.groups} groups of examples in {probes.folds} folds, scores on groups held "
        f"out. Random features: {probes.features}."
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
            "from what is told beside": probes.beside,
        }
        parts = [
            f"{name} {told(probes, float(v[here]))}" for name, v in compared.items() if not v[here].isnan()
        ]
        lines.append(
            f"'{site}': {quantity} is best at iteration {probes.iterations[k]}{where}, {told(probes, float(probes.score[here]))} "
            f"(95 % interval {low} to {high}, {int(probes.rows[here])} rows; {', '.join(parts)}; selectivity "
            f"{number(float(probes.selectivity[here]), 2)}). {_when(probes, s)}"
        )
    return " ".join([*lines, *probes.notes])


def told(probes: "Probes", value: float) -> str:
    return percent(value) if probes.kind == "classes" else number(value, 2)


def _when(probes: "Probes", site: int) -> str:
    """From when on it is above everything that stands beside it."""
    held, last = probes.learned[site].any(1).tolist(), len(probes.iterations)
    if not any(held):
        return "It is nowhere above all of these."
    first = held.index(True)
    if all(held[first:]):
        return f"It is above all of these from iteration {probes.iterations[first]} on."
    return f"It is above all of these at {sum(held)} of {last} iterations."


def _asked(probes: "Probes") -> str:
    if probes.kind == "numbers":
        return "a number"
    shown = ", ".join(map(str, probes.classes[:6])) + (" ..." if len(probes.classes) > 6 else "")
    return f"{len(probes.classes)} classes ({shown})"


def _where(position: int | str) -> str:
    return f", position {position}" if isinstance(position, int) else ""
