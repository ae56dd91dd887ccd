"""Accuracy peaks at the number of iterations of training, then falls (Ouro, Zhu et al. 2025, arXiv
2510.25741).

The recipe of ouro-mano up to its last stage, which moves the gate alone; 4,000 expressions. p is of
the exact test of McNemar between the answers after four iterations and after eight.
"""

from dataclasses import replace

from scipy.stats import binomtest

from loopscope.replication import Finding, Measurement, Paper, Trainings
from loopscope.training import Exits, Final, Recipe, Stages, accuracy, recipe_of

finding = Finding(
    number=16,
    claim="Accuracy peaks at the trained depth, then falls",
    source=Paper("Zhu et al.", 2025, "2510.25741"),
    metric="acc by k to 2T",
    criterion="drop >= 5 points at 2T, p < .01",
    minutes=25,
)

T, SCORED = 4, 4000


def trainings() -> dict[str, Recipe]:
    """The recipe of the zoo up to its last stage."""
    stages = Stages(Final(), Exits(0.1), at=5000)
    return {"bonus": replace(recipe_of("ouro-mano"), steps=6100, supervision=stages)}


def measure(seed: int, trained: Trainings) -> Measurement:
    """The drop from T to 2T, and the probability of as many changed answers by chance."""
    result = accuracy(trained("bonus"), iterations=2 * T, size=SCORED, seed=seed)
    before, after = (result.correctness[k][result.mask] >= 1 for k in (T, 2 * T))
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    p = float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
    scores = result.positions.tolist()
    numbers = {
        "drop": scores[T] - scores[2 * T],
        "p": p,
        "accuracy at T": scores[T],
        "accuracy at 2T": scores[-1],
    }
    return Measurement(numbers, {"accuracy": scores})


def holds(numbers: dict[str, float]) -> bool:
    """Both bounds."""
    return numbers["drop"] >= 0.05 and numbers["p"] < 0.01
