"""A stack of layers that loops beats the same stack run once, at equal weights (Ouro, Zhu et al.
2025, arXiv 2510.25741, on Mano).

The recipes of ouro-mano and ouro-mano-once: two blocks run four times, or once, on expressions of
up to four operators modulo 5 (in the paper ten or more operators modulo 23). Both train for as many
steps; the last stage of the first, which moves the gate alone, is left out.
"""

from dataclasses import replace

from loopscope.replication import Finding, Paper, Trainings
from loopscope.training import Exits, Final, Recipe, Stages, accuracy, recipe_of

finding = Finding(
    number=14,
    claim="Looped k layers beat k layers at equal weights",
    source=Paper("Zhu et al.", 2025, "2510.25741"),
    metric="acc gap",
    criterion="> 10 points",
    minutes=40,
)

STEPS, SCORED = 6100, 4000


def trainings() -> dict[str, Recipe]:
    """Four iterations, and one."""
    looped = replace(recipe_of("ouro-mano"), steps=STEPS, supervision=Stages(Final(), Exits(0.1), at=5000))
    return {"bonus": looped, "once": replace(recipe_of("ouro-mano-once"), steps=STEPS)}


def measure(seed: int, trained: Trainings) -> dict[str, float]:
    """Accuracy of both after the iterations that they were trained with."""
    scores = {
        "accuracy, four iterations": float(
            accuracy(trained("bonus"), None, 4, SCORED, seed=seed).positions[4]
        ),
        "accuracy, one pass": float(accuracy(trained("once"), None, 1, SCORED, seed=seed).positions[1]),
    }
    return {**scores, "gap": scores["accuracy, four iterations"] - scores["accuracy, one pass"]}


def holds(numbers: dict[str, float]) -> bool:
    """More than ten points."""
    return numbers["gap"] > 0.1
