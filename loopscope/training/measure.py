"""The numbers that an entry's header and card tell, measured on fresh examples."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .evaluate import Accuracy, accuracy

if TYPE_CHECKING:  # TransformerLens comes with the first model, not with the recipes
    from ..nn import LoopedModule

EXAMPLES, SEED = 1000, 2024


def measured(model: "LoopedModule", examples: int = EXAMPLES, seed: int = SEED) -> dict[str, Any]:
    """Accuracy at the model's own length and at twice that, by iteration; how far the answers have settled; halting.

    Returns, as JSON can say it:
        accuracy, sequences: fraction of answers, of whole sequences, right at the model's own length and iterations.
        changed: fraction of answers that running for twice the iterations changes.
        moved: the last relative step of the state, at the position where its mean is largest.
        twice: the same at twice the length, with twice the iterations.
        by_iteration: {"iterations": k, "length": fraction right, "twice": fraction right}.
        halting: mean halting iteration by position, and its rank correlation with the position; for models that halt.
    """
    task, n = model.task, model.iterations
    own = task.options[task.dial]
    there = accuracy(model, task, 2 * n, examples, seed)
    twice = accuracy(model, task, 3 * n, examples, seed, **{task.dial: 2 * own})
    shown = sorted({*range(0, 2 * n + 1, max(1, n // 8)), n, 2 * n})
    told = {
        "examples": examples,
        "seed": seed,
        "length": own,
        "iterations": n,
        "accuracy": _at(there.positions, n),
        "sequences": _at(there.sequences, n),
        "changed": _changed(there, n, 2 * n, model),
        "moved": _number(_at(there.moved, n)),
        "twice": {
            "length": 2 * own,
            "iterations": 2 * n,
            "accuracy": _at(twice.positions, 2 * n),
            "sequences": _at(twice.sequences, 2 * n),
            "changed": _changed(twice, 2 * n, 3 * n, model),
        },
        "by_iteration": {
            "iterations": shown,
            "length": [_at(there.positions, k) for k in shown],
            "twice": [_at(twice.positions, k) for k in shown],
        },
    }
    halting = _halting(model, n, examples, seed)
    return told if halting is None else told | {"halting": halting}


def _at(values: Tensor, k: int) -> float:
    """The value after k iterations, or where the model had left the loop before."""
    return round(values[min(k, len(values) - 1)].item(), 6)


def _changed(found: Accuracy, k: int, later: int, model: "LoopedModule") -> float:
    first, second = (found.answers[min(i, found.iterations)] for i in (k, later))
    asked = ~found.by_position[0].isnan()
    return round((first != second)[:, asked].float().mean().item(), 6)


def _halting(model: "LoopedModule", iterations: int, examples: int, seed: int) -> dict[str, Any] | None:
    from ..recorder import record

    batch = model.task.batch(examples, seed)
    run = record(model, batch.tokens, iterations)
    halting = model.halting(run)
    if halting is None:
        return None
    from scipy.stats import spearmanr

    answered = batch.mask.any(0)
    mean = halting.iteration.double().mean(0)[answered]
    alike = bool((mean == mean[0]).all())  # then there is no order to correlate with
    correlation: Any = float("nan") if alike else spearmanr(torch.arange(len(mean)), mean)[0]
    return {
        "by_position": [round(value, 4) for value in mean.tolist()],
        "spearman": _number(round(float(correlation), 6)),
        "mean": round(mean.mean().item(), 4),
        "halted": round(halting.halted.double().mean().item(), 6),
    }


def _number(value: float) -> float | None:
    return value if value == value else None
