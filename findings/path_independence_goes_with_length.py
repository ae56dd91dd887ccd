"""Path independence goes with accuracy at greater length (Anil et al. 2022, arXiv 2211.09961).

Six trainings of one layer with recall on prefix parity of 12 bits, which differ in the norm, the
place of the recall, and how the depth is drawn; all with the budget of recall-outer. Asymptotic
alignment over exchanged starts (the cosine of a loop's ends from its own start and from another
example's end) and accuracy, both at 24 bits after 40 iterations.
"""

from dataclasses import replace
from typing import Any

from scipy.stats import spearmanr

from loopscope import analyses
from loopscope.recorder import record
from loopscope.replication import Finding, Paper, Trainings
from loopscope.training import Fixed, Progressive, Recipe, accuracy, recipe_of

finding = Finding(
    number=5,
    claim="Path independence ~1 goes with long-length accuracy",
    source=Paper("Anil et al.", 2022, "2211.09961"),
    metric="AA vs accuracy at 2x length over 6 trainings",
    criterion="Spearman >= .7",
    minutes=30,
)

LENGTH, ITERATIONS, EXAMPLES, SCORED = 24, 40, 24, 1000


def trainings() -> dict[str, Recipe]:
    """Six ways to train it."""
    outer, plain = recipe_of("recall-outer"), recipe_of("recall-plain")
    return {
        "outer": outer,
        "plain": plain,
        "internal": recipe_of("recall-internal"),
        "outer, fixed depth": replace(outer, depth=Fixed(12)),
        "plain, fixed depth": replace(plain, depth=Fixed(12)),
        "outer, progressive": replace(outer, supervision=Progressive()),
    }


def measure(seed: int, trained: Trainings) -> dict[str, float]:
    """Alignment and accuracy of each, and their rank correlation."""
    alignments, scores = {}, {}
    for name in trained.recipes:
        model = trained(name)
        run = record(model, model.task.batch(EXAMPLES, seed=seed, length=LENGTH).tokens, ITERATIONS)
        result: Any = analyses.measure("path_independence", run, examples=EXAMPLES, random=0, seed=seed)
        alignments[name] = result.alignment
        right = accuracy(model, iterations=ITERATIONS, size=SCORED, seed=seed, length=LENGTH).positions
        scores[name] = float(right[-1])
    rho: Any = spearmanr(list(alignments.values()), list(scores.values()))[0]
    return {
        "Spearman's rho": float(rho),
        **{f"alignment, {name}": value for name, value in alignments.items()},
        **{f"accuracy, {name}": value for name, value in scores.items()},
    }


def holds(numbers: dict[str, float]) -> bool:
    """The rank correlation over the six."""
    return numbers["Spearman's rho"] >= 0.7
