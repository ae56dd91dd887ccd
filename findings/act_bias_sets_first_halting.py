"""The bias of an ACT unit sets where a fresh model halts (Sapunov 2026, arXiv 2604.21999).

With p = sigmoid(b) in every iteration, b = 0 halts in the second and b = -3 in none of K = 18. The
weights of the unit are zero, since the claim is about its bias; the block and the memory are
random. What the unit's own random weights change is reported beside it, without a criterion.
"""

from typing import Any

import torch

from loopscope import models, tasks
from loopscope.recorder import record
from loopscope.replication import Finding, Paper, Trainings

finding = Finding(
    number=19,
    claim="ACT init arithmetic: bias 0 halts at 2, -3 never in K",
    source=Paper("Sapunov", 2026, "2604.21999"),
    metric="mean halt at init",
    criterion="exact 2 and K",
    minutes=0.2,
)

K = 18


def measure(seed: int, trained: Trainings) -> dict[str, float]:
    """The mean halting iteration of untrained models by the bias of their halting unit."""
    return {
        "mean halt, bias 0": mean_halt(seed, 0.0),
        "mean halt, bias -3": mean_halt(seed, -3.0),
        "mean halt, bias 0, random weights of the unit": mean_halt(seed, 0.0, zero=False),
    }


def mean_halt(seed: int, bias: float, zero: bool = True) -> float:
    """The mean over the tokens of 64 boards of the iterations until they halt, K if they don't."""
    task = tasks.build("sudoku", size=4)
    config = {"vocabulary": task.vocabulary, "length": 16, "iterations": K, "epsilon": 0.05}
    model: Any = models.build("memory", seed=seed, halting_bias=bias, **config).eval()
    if zero:
        torch.nn.init.zeros_(model.act.gate.weight)
    run = record(model, task.batch(64, seed=seed).tokens, K, seed=seed)
    halting = model.halting(run)
    return float((halting.iteration + 1).double().mean())


def holds(numbers: dict[str, float]) -> bool:
    """Exactly 2 iterations with bias 0, and all K with bias -3."""
    return numbers["mean halt, bias 0"] == 2 and numbers["mean halt, bias -3"] == K
