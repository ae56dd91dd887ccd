"""What an iteration writes acts locally, and further iterations spread it (Miyanishi & Morimura
2026, arXiv 2605.20784).

Trained by the recipe of recall-outer on prefix parity of 12 bits: on the boards of 4 x 4 cells that
the zoo's recursive models solve, half of the cells are neighbours, so that nothing is far. The
state after 3 iterations is replaced at one position by another example's. Locality is the share of
the effect on other positions that falls on the next one, over that of a uniform effect.
"""

from typing import Any

from loopscope import analyses
from loopscope.recorder import record
from loopscope.replication import Finding, Measurement, Paper, Trainings
from loopscope.replication.measurement import Interval
from loopscope.training import Recipe, recipe_of

finding = Finding(
    number=24,
    claim="Writes are local, recursion spreads them",
    source=Paper("Miyanishi & Morimura", 2026, "2605.20784"),
    metric="locality x chance by m",
    criterion="> 1.5 at m=1, falling",
    minutes=3,
    fresh_only=True,
)

ITERATION, AFTER, EXAMPLES = 3, 4, 128


def trainings() -> dict[str, Recipe]:
    """One recipe of the zoo."""
    return {"outer": recipe_of("recall-outer")}


def measure(seed: int, trained: Trainings) -> Measurement:
    """Locality after one, two and four iterations, in units of a uniform effect."""
    model = trained("outer")
    run = record(model, model.task.batch(EXAMPLES, seed=seed).tokens)
    result: Any = analyses.measure(
        "locality", run, iteration=ITERATION, iterations_after=AFTER, examples=EXAMPLES, seed=seed
    )
    numbers = {}
    for m in (1, 2, 4):
        i = result.after.index(m)
        values = (result.locality[i], result.low[i], result.high[i])
        numbers[f"locality, m = {m}"] = Interval(*map(float, values))
    return Measurement(numbers, {"locality": result.locality.tolist()}, "iterations after the patch")


def holds(numbers: dict[str, float]) -> bool:
    """Above 1.5 after one iteration, less after two, and less again after four."""
    one, two, four = (numbers[f"locality, m = {m}"] for m in (1, 2, 4))
    return one > 1.5 and one > two > four
