"""The attention of a layer is most like that of the same layer in another iteration (Blayney et al.
2026, arXiv 2604.11791).

A stack of two blocks, run four times, trained by the recipe of ouro-mano without its last stage,
which moves the gate alone. For every layer of every iteration after the first, the nearest other
one by the mean distance of its patterns over heads and examples, among eight iterations.
"""

from dataclasses import replace
from typing import Any

from loopscope import analyses
from loopscope.recorder import record
from loopscope.replication import Finding, Paper, Trainings
from loopscope.training import Exits, Final, Recipe, Stages, recipe_of

finding = Finding(
    number=3,
    claim="Same layer of another iteration is the nearest neighbour in attention",
    source=Paper("Blayney et al.", 2026, "2604.11791"),
    metric="share of layers whose nearest is same layer",
    criterion=">= .95 after iteration 1",
    minutes=25,
)

ITERATIONS, EXAMPLES = 8, 64


def trainings() -> dict[str, Recipe]:
    """The recipe of the zoo up to its last stage."""
    stages = Stages(Final(), Exits(0.1), at=5000)
    return {"bonus": replace(recipe_of("ouro-mano"), steps=6100, supervision=stages)}


def measure(seed: int, trained: Trainings) -> dict[str, float]:
    """The share of unrolled layers, after the first iteration, whose nearest is the same layer."""
    model = trained("bonus")
    tokens = model.task.batch(EXAMPLES, seed=seed).tokens
    result: Any = analyses.measure("attention", record(model, tokens, ITERATIONS), examples=EXAMPLES)
    return {"share whose nearest is the same layer": result.same_layer_fraction}


def holds(numbers: dict[str, float]) -> bool:
    """Nineteen of twenty."""
    return numbers["share whose nearest is the same layer"] >= 0.95
