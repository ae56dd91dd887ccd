"""Noise in the state and selection by Q solve what one path can't (the probabilistic recursive
model, arXiv 2605.19943).

The recipe of trm-sudoku, on 500 boards with 10 to 12 blanks, up to two more than in training. Of
eight runs with noise of standard deviation 0.2 in the high state, of which the first has none, the
one with the largest Q is taken. Whether any of the eight is right is reported beside it.
"""

from loopscope.models.trm import rollouts  # pyright: ignore[reportMissingImports]
from loopscope.replication import Finding, Paper, Trainings
from loopscope.training import Recipe, recipe_of

finding = Finding(
    number=25,
    claim="Noise + Q-selection solves what one path cannot",
    source=Paper("", 2026, "2605.19943"),
    metric="solved 8 rollouts vs 1",
    criterion=">= 5 points on hard boards",
    minutes=12,
)

BOARDS, COUNT, NOISE = 500, 8, 0.2


def trainings() -> dict[str, Recipe]:
    """The recipe of the zoo."""
    return {"trm": recipe_of("trm-sudoku")}


def measure(seed: int, trained: Trainings) -> dict[str, float]:
    """The share of boards solved by one run without noise, by the chosen one, and by any."""
    model = trained("trm")
    batch = model.task.batch(BOARDS, seed=seed, fewest=10, blanks=12)
    result = rollouts(model, batch.tokens, COUNT, NOISE, into="high", seed=seed)
    right = ((result.answers == batch.targets) | ~batch.mask).all(-1).double()  # (rollout, board)
    chosen = right.gather(0, result.best[None])[0]
    return {
        "solved, one path": float(right[0].mean()),
        "solved, chosen of eight": float(chosen.mean()),
        "gain": float(chosen.mean() - right[0].mean()),
        "solved by any of the eight": float(right.amax(0).mean()),
    }


def holds(numbers: dict[str, float]) -> bool:
    """Five points more."""
    return numbers["gain"] >= 0.05
