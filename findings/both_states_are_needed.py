"""Freezing either state of a recursive model destroys its answer, and to inject the input into one
role is better than into both (Shen, Su & Kyrillidis 2026, arXiv 2605.17811).

The recipe of trm-sudoku, whose input goes into the low update, and the same with it in both. A
state is frozen from the start; the one that is read out may be updated by the last iteration. 500
boards; accuracies on 2,000, all with up to 10 blanks as in training.
"""

from dataclasses import replace
from typing import Any

from loopscope import analyses
from loopscope.recorder import record
from loopscope.replication import Finding, Paper, Trainings
from loopscope.training import Recipe, accuracy, recipe_of

finding = Finding(
    number=22,
    claim="Freezing either state destroys the answer; asymmetric injection beats symmetric",
    source=Paper("Shen, Su & Kyrillidis", 2026, "2605.17811"),
    metric="solved frozen; gap",
    criterion="frozen < 5 %; gap >= 3 points",
    minutes=25,
)

BOARDS, SCORED = 500, 2000


def trainings() -> dict[str, Recipe]:
    """The input into one role, and into both."""
    recipe = recipe_of("trm-sudoku")
    return {"trm": recipe, "both": replace(recipe, config={**recipe.config, "input": "both"})}


def measure(seed: int, trained: Trainings) -> dict[str, float]:
    """Boards solved with each state frozen, and by both wirings."""
    model = trained("trm")
    run = record(model, model.task.batch(BOARDS, seed=seed).tokens)
    result: Any = analyses.measure("roles", run, examples=BOARDS, starts=[0], compare=False, seed=seed)
    frozen = {
        f"solved, {one.field.removeprefix('state.')} frozen": float(one.solved.double().mean())
        for one in result.frozen
        if one.start == 0
    }
    solved = {
        name: float(accuracy(trained(name), size=SCORED, seed=seed).sequences[-1]) for name in ("trm", "both")
    }
    return {
        **frozen,
        "solved, input into low": solved["trm"],
        "solved, input into both": solved["both"],
        "gap": solved["trm"] - solved["both"],
    }


def holds(numbers: dict[str, float]) -> bool:
    """Both states are needed, and three points are between the wirings."""
    frozen = max(numbers["solved, high frozen"], numbers["solved, low frozen"])
    return frozen < 0.05 and numbers["gap"] >= 0.03
