"""Composition is learned in three stages, training questions, questions in distribution, systematic
ones; the last only with two loops or more (Kohli et al. 2026, arXiv 2604.07822).

The recipe of grokking-hops, whose two-hop questions get two iterations, and the same with one
iteration for all. A set is learned when 95 % of it are right for good; the order is kept if each
date's interval is before the next one's.
"""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

from loopscope import analyses
from loopscope.replication import Finding, Paper, Trainings
from loopscope.training import Fixed, Recipe, recipe_of

finding = Finding(
    number=11,
    claim="Three stages: train, in-distribution, systematic; last only with >= 2 loops",
    source=Paper("Kohli et al.", 2026, "2604.07822"),
    metric="95 % dates; systematic acc at R=1",
    criterion="order kept; R=1 < 10 %, R=2 > 90 %",
    minutes=15,
)

SETS = ("train", "test", "systematic")


def trainings() -> dict[str, Recipe]:
    """Two loops, and one."""
    recipe = recipe_of("grokking-hops")
    return {
        "R = 2": recipe,
        "R = 1": replace(recipe, depth=Fixed(1), config={**recipe.config, "iterations": 1}),
    }


def measure(seed: int, trained: Trainings) -> dict[str, float]:
    """The dates with their intervals, and the systematic accuracy of both at the end."""
    histories = {name: trained.history(name) for name in ("R = 2", "R = 1")}
    result: Any = analyses.measure("grokking", histories["R = 2"])
    numbers: dict[str, float] = {}
    dates = [result.transitions.get(name) for name in SETS]
    for name, date in zip(SETS, dates, strict=True):
        numbers[f"step of {name}"] = math.nan if date is None else float(date.step)
    for i, (a, b) in enumerate(pairwise(dates)):
        gap = math.nan if a is None or b is None else float(b.low - a.high)
        numbers[f"steps from {SETS[i]} to {SETS[i + 1]}"] = gap
    for name, history in histories.items():
        numbers[f"systematic accuracy, {name}"] = float(history.accuracy("systematic")[-1, -1])
    return numbers


def holds(numbers: dict[str, float]) -> bool:
    """Each set after the one before, and the last with two loops only."""
    order = all(numbers[f"steps from {a} to {b}"] > 0 for a, b in pairwise(SETS))
    return (
        order and numbers["systematic accuracy, R = 1"] < 0.1 and numbers["systematic accuracy, R = 2"] > 0.9
    )
