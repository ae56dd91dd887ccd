"""An entropy bonus keeps the mass of the exits from collapsing onto one iteration (Ouro, Zhu et al.
2025, arXiv 2510.25741).

The recipe of ouro-mano up to its last stage: 5,000 steps of the last answer alone, then 1,100 of
the expected loss over four exits, with an entropy bonus of 0.1 and without. The entropy is that of
the mean exit distribution, log 4 = 1.386 nats at most.
"""

from dataclasses import replace
from typing import Any

import torch

from loopscope.recorder import record
from loopscope.replication import Finding, Measurement, Paper, Trainings
from loopscope.training import Exits, Final, Recipe, Stages, accuracy, recipe_of

finding = Finding(
    number=15,
    claim="Entropy bonus keeps exit mass from collapsing",
    source=Paper("Zhu et al.", 2025, "2510.25741"),
    metric="entropy of mean exit pdf",
    criterion="with >= 1.0 nat, without <= .4",
    minutes=50,
)

EXAMPLES, SCORED = 1000, 2000


def trainings() -> dict[str, Recipe]:
    """With and without the bonus."""
    recipe = recipe_of("ouro-mano")
    return {
        name: replace(recipe, steps=6100, supervision=Stages(Final(), Exits(bonus), at=5000))
        for name, bonus in (("bonus", 0.1), ("no bonus", 0.0))
    }


def measure(seed: int, trained: Trainings) -> Measurement:
    """The entropies in nats, the accuracies, and the mean exit distributions."""
    numbers, curves = {}, {}
    for name in ("bonus", "no bonus"):
        model: Any = trained(name)
        batch = model.task.batch(EXAMPLES, seed=seed)
        weights = model.halting(record(model, batch.tokens)).weights[:, batch.mask].double().mean(1)
        curves[f"mean exit distribution, {name}"] = weights.tolist()
        numbers[f"entropy, {name}"] = float(torch.special.entr(weights).sum())
        numbers[f"accuracy, {name}"] = float(accuracy(model, size=SCORED, seed=seed).positions[-1])
    return Measurement(numbers, curves)


def holds(numbers: dict[str, float]) -> bool:
    """Both bounds."""
    return numbers["entropy, bonus"] >= 1.0 and numbers["entropy, no bonus"] <= 0.4
