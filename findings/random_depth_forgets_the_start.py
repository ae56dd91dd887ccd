"""Random depth with a truncated gradient gives a loop that ends in one place wherever it starts
(Huginn, Geiping et al. 2025, arXiv 2502.05171).

The recipe of huginn-hops: a random start, depths of mean 7, gradient through the last five
iterations. Alignment is the cosine between the ends from an example's own random start and from
other starts; answers are compared between two random starts of the same examples after 14
iterations, twice that mean.
"""

from typing import Any

from loopscope import analyses
from loopscope.recorder import record
from loopscope.replication import Finding, Measurement, Paper, Trainings
from loopscope.training import Recipe, recipe_of

finding = Finding(
    number=7,
    claim="Random depth + truncated gradient gives a loop independent of start",
    source=Paper("Geiping et al.", 2025, "2502.05171"),
    metric="AA, answers changed by start",
    criterion="AA >= .999; < .5 % after 2x mean depth",
    minutes=8,
)

ITERATIONS, EXAMPLES, SCORED = 14, 16, 2000


def trainings() -> dict[str, Recipe]:
    """The recipe of the zoo."""
    return {"random depth": recipe_of("huginn-hops")}


def measure(seed: int, trained: Trainings) -> Measurement:
    """Asymptotic alignment, and the share of answers that another start changes, by iteration."""
    model = trained("random depth")
    run = record(model, model.task.batch(EXAMPLES, seed=seed).tokens, ITERATIONS, seed=seed)
    result: Any = analyses.measure("path_independence", run, examples=EXAMPLES, seed=seed)
    batch = model.task.batch(SCORED, seed=seed)
    answers = []
    for start in (seed, seed + 1):
        other = record(model, batch.tokens, ITERATIONS, seed=start)
        answers.append([other.logits[k].argmax(-1)[batch.mask] for k in range(ITERATIONS + 1)])
    changed = [float((a != b).double().mean()) for a, b in zip(*answers, strict=True)]
    numbers = {"asymptotic alignment": result.alignment, "share of answers changed": changed[-1]}
    return Measurement(numbers, {"share of answers changed by the start": changed})


def holds(numbers: dict[str, float]) -> bool:
    """Both bounds."""
    return numbers["asymptotic alignment"] >= 0.999 and numbers["share of answers changed"] < 0.005
