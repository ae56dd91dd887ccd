"""Four bits without calibration keep the accuracy of cells and lose that of whole boards (arXiv
2606.26488).

The recipe of trm-sudoku; every weight matrix is rounded to the nearest of 15 levels between its
largest magnitudes, with one scale for a matrix, or one for each of its rows (per channel). 1,000
boards with up to 12 blanks, at the model's own depth. What boards would be if the errors of cells
were independent is reported beside it, without a criterion: more are lost then.
"""

import copy
from typing import Any

import torch

from loopscope.replication import Finding, Paper, Trainings
from loopscope.training import Recipe, accuracy, recipe_of

finding = Finding(
    number=38,
    claim="4-bit without calibration keeps cell accuracy, loses board accuracy",
    source=Paper("", 2026, "2606.26488"),
    metric="cell and board accuracy at 32 and 4 bits",
    criterion="cells drop < 8 points while boards drop > 12, per-channel wins back half",
    minutes=12,
    reserve=True,
    fresh_only=True,
)

BOARDS, BLANKS, LEVELS = 1000, 12, 7


def trainings() -> dict[str, Recipe]:
    """The recipe of the zoo."""
    return {"trm": recipe_of("trm-sudoku")}


def measure(seed: int, trained: Trainings) -> dict[str, float]:
    """Accuracies of cells and boards, and by how much they drop."""
    full = trained("trm")
    numbers = {}
    for name, model in (
        ("32 bits", full),
        ("4 bits", rounded(full, per_channel=False)),
        ("4 bits per channel", rounded(full, per_channel=True)),
    ):
        result = accuracy(model, full.task, size=BOARDS, seed=seed, blanks=BLANKS)
        numbers[f"cells, {name}"] = float(result.positions[-1])
        numbers[f"boards, {name}"] = float(result.sequences[-1])
        independent = result.positions[-1] ** result.mask.sum(1)
        numbers[f"boards if errors were independent, {name}"] = float(independent.mean())
    for what in ("cells", "boards"):
        numbers[f"drop of {what}"] = numbers[f"{what}, 32 bits"] - numbers[f"{what}, 4 bits"]
    numbers["won back per channel"] = numbers["boards, 4 bits per channel"] - numbers["boards, 4 bits"]
    return numbers


def rounded(model: Any, *, per_channel: bool) -> Any:
    """A copy whose matrices have 2 * LEVELS + 1 values, scaled as a whole or row by row."""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for weight in copied.parameters():
            if weight.ndim == 2:
                size = weight.abs().amax(1, keepdim=True) if per_channel else weight.abs().amax()
                step = size.clamp(min=1e-12) / LEVELS
                weight.copy_((weight / step).round() * step)
    return copied.eval()


def holds(numbers: dict[str, float]) -> bool:
    """Cells lose little, boards much, and a scale for each row wins back half of that."""
    return (
        numbers["drop of cells"] < 0.08
        and numbers["drop of boards"] > 0.12
        and numbers["won back per channel"] >= numbers["drop of boards"] / 2
    )
