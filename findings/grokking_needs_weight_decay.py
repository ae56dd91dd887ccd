"""Without weight decay the modular sum is memorised and not generalised (Nanda et al. 2023, arXiv
2301.05217).

The recipe of grokking-modular, 5,000 steps on half of all sums modulo 59, without weight decay. The
same recipe with its weight decay is reported beside it, without a criterion.
"""

from dataclasses import replace

from loopscope.replication import Finding, Measurement, Paper, Trainings
from loopscope.training import Recipe, recipe_of

finding = Finding(
    number=10,
    claim="No weight decay, no grokking",
    source=Paper("Nanda et al.", 2023, "2301.05217"),
    metric="test acc at 5,000",
    criterion="< 20 % with train 100 %",
    minutes=20,
)


def trainings() -> dict[str, Recipe]:
    """Without and with weight decay."""
    recipe = recipe_of("grokking-modular")
    without = replace(recipe, optimiser=replace(recipe.optimiser, weight_decay=0.0))
    return {"no decay": without, "decay": recipe}


def measure(seed: int, trained: Trainings) -> Measurement:
    """Accuracy on all sums of each set, at the last look."""
    numbers, curves = {}, {}
    for name in ("no decay", "decay"):
        history = trained.history(name)
        for part in ("train", "test"):
            numbers[f"{part} accuracy, {name}"] = float(history.accuracy(part)[-1, -1])
        curves[f"test accuracy, {name}"] = history.accuracy("test")[:, -1].tolist()
    return Measurement(numbers, curves, "look during the training")


def holds(numbers: dict[str, float]) -> bool:
    """Every sum of the training set is right, and less than a fifth of the others."""
    return numbers["test accuracy, no decay"] < 0.2 and numbers["train accuracy, no decay"] == 1
