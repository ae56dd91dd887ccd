"""While a model groks, the restricted and the excluded loss move before the test loss does (Nanda
et al. 2023, arXiv 2301.05217).

The recipe of grokking-modular: a one-layer transformer that loops twice, on half of all sums modulo
59. A date is the halfway point of a measure: the restricted loss below half of guessing, the
excluded loss above guessing, the test loss below half of guessing. Its interval is between the two
looks around it. The gap is from the end of the progress measure's interval to the beginning of the
test loss's.
"""

import math
from typing import Any

from loopscope import analyses
from loopscope.replication import Finding, Measurement, Paper, Trainings
from loopscope.training import Recipe, recipe_of

finding = Finding(
    number=9,
    claim="Grokking: restricted and excluded loss move before test loss",
    source=Paper("Nanda et al.", 2023, "2301.05217"),
    metric="dated crossings",
    criterion="intervals disjoint, order kept",
    minutes=12,
)

TEST = "test loss below half of guessing"
EVENTS = {
    "restricted": "restricted loss below half of guessing",
    "excluded": "excluded loss above guessing",
}


def trainings() -> dict[str, Recipe]:
    """The recipe of the zoo."""
    return {"decay": recipe_of("grokking-modular")}


def measure(seed: int, trained: Trainings) -> Measurement:
    """The looks around each date, and the gaps between them, in optimiser steps."""
    history = trained.history("decay")
    result: Any = analyses.measure("grokking", history)
    looks = {one.event: one.looks for one in result.milestones}
    never = (math.nan, math.nan)
    test = looks.get(TEST, never)
    numbers = {"test loss, look before": float(test[0]), "test loss, look after": float(test[1])}
    for name, event in EVENTS.items():
        before, after = looks.get(event, never)
        numbers[f"{name} loss, look before"] = float(before)
        numbers[f"{name} loss, look after"] = float(after)
        numbers[f"steps from {name} to test"] = float(test[0] - after)
    fourier, test_loss = result.progress.fourier, history.loss("test")[:, -1].tolist()
    curves = {
        "restricted loss": fourier.restricted[:, -1].tolist(),
        "excluded loss": fourier.excluded[:, -1].tolist(),
        "test loss": [test_loss[history.steps.index(step)] for step in result.progress.steps],
    }
    return Measurement(numbers, curves, "checkpoint of the training")


def holds(numbers: dict[str, float]) -> bool:
    """Both gaps are above zero: the intervals are disjoint, and the test loss is last."""
    return all(numbers[f"steps from {name} to test"] > 0 for name in EVENTS)
