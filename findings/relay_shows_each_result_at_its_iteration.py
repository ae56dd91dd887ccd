"""A loop whose k-th iteration is trained on the k-th result of a chain shows it there, and loops
that are trained otherwise don't (RELAY: Yu et al. 2025, arXiv 2502.08482).

Trained by the recipes of relay-modular and relay-roots. The lens is the model's own read-out; the
matrix is of 2,000 test examples whose chains have all four results. A matrix passes if its smallest
diagonal entry is .95 or more and its largest other entry .3 or less. The other nets are one of the
same architecture, task and budget that is trained on its answers after the last iteration alone,
and the zoo's huginn-hops. What linear probes read is reported beside it.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch

from loopscope import models
from loopscope.lenses import chain_matrix
from loopscope.probing import Probes
from loopscope.recorder import record
from loopscope.replication import Finding, Measurement, Paper, Trainings
from loopscope.runs.run import Run
from loopscope.tasks import Task
from loopscope.training import Final, Recipe, recipe_of

finding = Finding(
    number=30,
    claim="RELAY: a loop trained against the k-th step of a chain shows step k at iteration k",
    source=Paper("Yu et al.", 2025, "2502.08482"),
    metric="lens/probe matrix step x iteration",
    criterion="diagonal >= .95, off-diagonal <= .3; other nets fail it",
    minutes=5,
    recipes_tried=5,
    curve_start=1,
)

EXAMPLES, DIAGONAL, OTHERS = 2000, 0.95, 0.3
ALIGNED, OTHER = ("modular chain", "roots"), ("answers alone", "huginn-hops")


def trainings() -> dict[str, Recipe]:
    """Two aligned loops, and one that is trained on its answers alone."""
    modular = recipe_of("relay-modular")
    return {
        "modular chain": modular,
        "roots": recipe_of("relay-roots"),
        "answers alone": replace(modular, supervision=Final()),
    }


def measure(seed: int, trained: Trainings) -> Measurement:
    """The ends of each matrix, and for the figure each diagonal."""
    numbers, curves = {}, {}
    for name in (*ALIGNED, *OTHER):
        model = models.load(name) if name == "huginn-hops" else trained(name)
        run = record(model, model.task.batch(EXAMPLES, seed=seed, exactly=4).tokens, seed=seed)
        matrix = chain_matrix(run)
        numbers |= {
            f"least diagonal, {name}": float(matrix.diagonal.min()),
            f"largest off-diagonal, {name}": float(matrix.off_diagonal.max()),
        }
        if name in ALIGNED:
            numbers[f"least diagonal of probes, {name}"] = probed(run, model.task, seed)
        curves[f"result k, {name}"] = matrix.diagonal.tolist()
    return Measurement(numbers, curves, "k")


def probed(run: Run, task: Task, seed: int) -> float:
    """The smallest accuracy with which a linear probe of the state after k iterations reads result
    k on held-out examples."""
    chain, scores = task.results(run.tokens), []
    assert chain is not None
    for k in range(1, len(chain) + 1):
        mask = chain.mask[k - 1]
        probes = Probes.fit(
            run, chain.result(k), mask=mask, iterations=[k], positions="shared", random=False, seed=seed
        )
        scores.append(probes.score[0, 0, 0])
    return float(torch.stack(scores).min())


def passes(numbers: Mapping[str, float], name: str) -> bool:
    """Whether the matrix of this net has its results on the diagonal alone."""
    least, largest = numbers[f"least diagonal, {name}"], numbers[f"largest off-diagonal, {name}"]
    return least >= DIAGONAL and largest <= OTHERS


def holds(numbers: Mapping[str, float]) -> bool:
    """Both aligned loops pass, and no other does."""
    return all(passes(numbers, name) for name in ALIGNED) and not any(passes(numbers, name) for name in OTHER)
