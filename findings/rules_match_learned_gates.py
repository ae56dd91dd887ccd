"""Rules on what a loop answers match a halting gate that was learned; what fails is how the
trajectories were trained ("Adaptive depth", arXiv 2607.20519).

Ouro's two blocks on Mano, as in ouro-mano, in two trainings: joint (the expected loss over the
exits of the gate, with an entropy bonus of 0.1, from step 5,000 on) and per iteration (the mean
loss of all answers from the first step on); then, in both, 500 steps of the gate alone, on whether
another iteration helped. Accuracy is compared at equal mean depth, on average over nine depths from
1.5 to 3.5 of four. The rule is the one that is best on other expressions.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from loopscope import analyses
from loopscope.recorder import record
from loopscope.replication import Finding, Paper, Trainings
from loopscope.training import Every, Recipe, Stages, recipe_of
from loopscope.training.exit_losses import Gate

finding = Finding(
    number=17,
    claim="Post-hoc confidence readouts match or beat learned halting gates; the failure lies in jointly "
    "trained trajectories",
    source=Paper("", 2026, "2607.20519"),
    metric="accuracy at equal mean depth, gate vs best rule, joint vs per-iteration supervision",
    criterion="best rule within 1 point of gate on joint nets; on per-iteration-trained nets rule >= gate",
    minutes=55,
)

EXAMPLES, DEPTHS = 4000, np.linspace(1.5, 3.5, 9)


def trainings() -> dict[str, Recipe]:
    """Joint and per iteration, each with a gate trained at the end."""
    joint = recipe_of("ouro-mano")
    return {"joint": joint, "per iteration": replace(joint, supervision=Stages(Every(), Gate(), at=6100))}


def measure(seed: int, trained: Trainings) -> dict[str, float]:
    """Accuracies of the gate and of the best rule, at equal mean depths."""
    numbers = {}
    for name in ("joint", "per iteration"):
        model = trained(name)
        chosen, judged = (at_depths(model, number) for number in (seed, seed + 1))
        rule = max((one for one in chosen if one not in ("model", "depth")), key=lambda one: chosen[one])
        numbers |= {
            f"gate, {name}": judged["model"],
            f"best rule, {name}": judged[rule],
            f"rule minus gate, {name}": judged[rule] - judged["model"],
        }
    return numbers


def at_depths(model: Any, seed: int) -> dict[str, float]:
    """By exit method: the mean of its accuracies at the depths, between its thresholds' points."""
    run = record(model, model.task.batch(EXAMPLES, seed=seed).tokens)
    result: Any = analyses.measure("policy", run)
    return {one.name: mean_accuracy(one.curve) for one in result.methods}


def mean_accuracy(curve: Any) -> float:
    """At the depths, between the points of a method's thresholds."""
    order = np.argsort(curve.iterations.numpy(), kind="stable")
    mean, right = curve.iterations.numpy()[order], curve.accuracy.numpy()[order]
    return float(np.interp(DEPTHS, mean, right).mean())


def holds(numbers: dict[str, float]) -> bool:
    """Within a point of the gate in joint nets; no worse in those supervised at each iteration."""
    joint, each = (numbers[f"rule minus gate, {name}"] for name in ("joint", "per iteration"))
    return joint >= -0.01 and each >= 0
