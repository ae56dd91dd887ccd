"""Without recall the fixed points of a loop don't depend on its input; with recall and an outer
norm they do (Labovich 2026, arXiv 2604.15259).

Trained by the recipes of recall-none and recall-outer on prefix parity of 12 bits. Runs have 40
iterations, twice the entries' own; fixed points of 16 examples with eight other starts each.
"""

from typing import Any

from loopscope import analyses
from loopscope.recorder import record
from loopscope.replication import Finding, Paper, Trainings
from loopscope.training import Recipe, accuracy, recipe_of

finding = Finding(
    number=4,
    claim="Without recall fixed points do not depend on input; with recall + outer norm they do",
    source=Paper("Labovich", 2026, "2604.15259"),
    metric="input dependence; accuracy",
    criterion="none: dep < .01, acc < 55 %; outer: dep > .5, reach >= .95, acc >= 99 %",
    minutes=12,
)

ITERATIONS, EXAMPLES, SCORED = 40, 16, 2000


def trainings() -> dict[str, Recipe]:
    """The two recipes of the zoo; they differ in the recall alone."""
    return {"none": recipe_of("recall-none"), "outer": recipe_of("recall-outer")}


def measure(seed: int, trained: Trainings) -> dict[str, float]:
    """Input dependence, reachability and accuracy of both."""
    numbers = {}
    for name in ("none", "outer"):
        model = trained(name)
        run = record(model, model.task.batch(EXAMPLES, seed=seed).tokens, ITERATIONS)
        result: Any = analyses.measure(
            "fixed_points", run, examples=EXAMPLES, perturbed=2, exchanged=2, random=4, spectra=0, seed=seed
        )
        numbers |= {
            f"input dependence, {name}": result.input_dependence,
            f"reachability, {name}": result.reachability,
            f"accuracy, {name}": float(accuracy(model, size=SCORED, seed=seed).positions[-1]),
        }
    return numbers


def holds(numbers: dict[str, float]) -> bool:
    """Every bound of the criterion."""
    none = numbers["input dependence, none"] < 0.01 and numbers["accuracy, none"] < 0.55
    outer = numbers["input dependence, outer"] > 0.5 and numbers["reachability, outer"] >= 0.95
    return none and outer and numbers["accuracy, outer"] >= 0.99
