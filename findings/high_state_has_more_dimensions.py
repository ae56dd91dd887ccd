"""After training the high state of HRM has more dimensions than the low one, and before it as many
(Wang et al. 2025, arXiv 2506.21734).

The recipe of hrm-sudoku, on 200 boards. The participation ratio is taken over the vectors of all
cells at the end of the run; that of an untrained model of the same configuration on the same
boards.
"""

from typing import Any

from loopscope import analyses
from loopscope.recorder import record
from loopscope.replication import Finding, Measurement, Paper, Trainings
from loopscope.training import Recipe, recipe_of

finding = Finding(
    number=23,
    claim="Participation ratio z_H > z_L after training, equal before",
    source=Paper("Wang et al.", 2025, "2506.21734"),
    metric="ratio",
    criterion="> 1.5 vs .9-1.1",
    minutes=13,
)

BOARDS = 200


def trainings() -> dict[str, Recipe]:
    """The recipe of the zoo."""
    return {"hrm": recipe_of("hrm-sudoku")}


def measure(seed: int, trained: Trainings) -> Measurement:
    """The ratio of the two states' participation ratios, after training and before."""
    model = trained("hrm")
    run = record(model, model.task.batch(BOARDS, seed=seed).tokens)
    result: Any = analyses.measure("roles", run, examples=BOARDS, starts=[0], seed=seed)
    by_field = {one.field.removeprefix("state."): one for one in result.dimensions}
    high, low = by_field["high"], by_field["low"]
    numbers = {
        "ratio of high to low, trained": float(high.ratio[-1] / low.ratio[-1]),
        "ratio of high to low, untrained": float(high.untrained[-1] / low.untrained[-1]),
        "participation ratio, high": float(high.ratio[-1]),
        "participation ratio, low": float(low.ratio[-1]),
        "solved": result.solved,
    }
    return Measurement(numbers, {"high": high.ratio.tolist(), "low": low.ratio.tolist()})


def holds(numbers: dict[str, float]) -> bool:
    """One and a half times as many after training, equal within a tenth before."""
    before = numbers["ratio of high to low, untrained"]
    return numbers["ratio of high to low, trained"] > 1.5 and 0.9 <= before <= 1.1
