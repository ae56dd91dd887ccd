"""The numbers in an entry's header and card, measured on fresh examples."""

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..tasks import Task
from .evaluate import MOST_LEVELS, Accuracy, accuracy

if TYPE_CHECKING:  # TransformerLens comes with the first model, not with the recipes
    from ..nn import LoopedModule

SEED = 2024
EXAMPLES, ONE_ANSWER = 1000, 20_000
"""Number of examples; more if each has one answer, or a number as its answer, so that the score's
sampling error is below one point."""


def measure_entry(model: "LoopedModule", examples: int | None = None, seed: int = SEED) -> dict[str, Any]:
    """The task's score at the model's own length and at twice that, by iteration; whether the
    answers have converged; halting.

    Arguments:
        examples: None: as many as `enough` returns.

    Returns:
        As JSON:

        - score: its name, such as "accuracy"; dial: the option that lengthens examples.
        - accuracy, sequences: mean score, and fraction of entirely correct sequences, at the
          model's own length and iterations.
        - changed: what twice the iterations change, for tokens the fraction of answers.
        - moved: the last relative step of the state (see `Accuracy.relative_step`).
        - twice: the same at twice the length, with twice the iterations; None if the task or the
          model has no such length.
        - by_iteration: {"iterations": k, "length": score, "twice": score or None}.
        - by_difficulty: {"unit": ..., "levels": ..., "iterations": k, "score": by iteration and
          level}, for tasks of few levels.
        - halting, for models that halt: mean halting iteration by position, its rank correlation
          with the position and with the difficulty.
    """
    task, n = model.task, model.iterations
    length = task.options[task.difficulty_option]
    examples = enough(task) if examples is None else examples
    once = accuracy(model, task, 2 * n, examples, seed=seed)
    twice = None
    if task.difficulty_limit is None or 2 * length <= task.difficulty_limit:
        with contextlib.suppress(LoopscopeError):  # learned positions have a largest length
            twice = accuracy(model, task, 3 * n, examples, seed=seed, **{task.difficulty_option: 2 * length})
    numbers = {
        "examples": examples,
        "seed": seed,
        "score": task.score,
        "dial": task.difficulty_option,
        "length": length,
        "iterations": n,
        **_scores(once, n, 2 * n, task),
        "moved": _number(_at(once.relative_step, n)),
        "twice": None
        if twice is None
        else {"length": 2 * length, "iterations": 2 * n, **_scores(twice, 2 * n, 3 * n, task)},
        "by_iteration": _by_iteration(once, twice, n),
    }
    if len(once.by_difficulty) > 1:
        numbers["by_difficulty"] = _by_difficulty(once, n, task)
    halting = _halting(model, n, min(examples, EXAMPLES), seed)
    return numbers if halting is None else numbers | {"halting": halting}


def _scores(result: Accuracy, k: int, later: int, task: Task) -> dict[str, float]:
    return {
        "accuracy": _at(result.positions, k),
        "sequences": _at(result.sequences, k),
        "changed": _changed(result, k, later, task),
    }


def _by_iteration(once: Accuracy, twice: Accuracy | None, n: int) -> dict[str, Any]:
    ks = sorted({*range(0, 2 * n + 1, max(1, n // 8)), n, 2 * n})
    return {
        "iterations": ks,
        "length": [_at(once.positions, k) for k in ks],
        "twice": None if twice is None else [_at(twice.positions, k) for k in ks],
    }


def _by_difficulty(once: Accuracy, n: int, task: Task) -> dict[str, Any]:
    levels, ks = once.by_difficulty, sorted({0, n // 4, n // 2, n, 2 * n})
    return {
        "unit": task.difficulty_unit,
        "levels": list(levels),
        "iterations": ks,
        "score": [[_at(values, k) for values in levels.values()] for k in ks],
    }


def enough(task: Task) -> int:
    """The number of examples that determine the task's score to about half a point."""
    few_answers = task.continuous or int(task.batch(1, SEED).mask.sum()) == 1
    return ONE_ANSWER if few_answers else EXAMPLES


def _at(values: Tensor, k: int) -> float:
    """The value after k iterations, or after the last if the model halted before."""
    return round(values[min(k, len(values) - 1)].item(), 6)


def _changed(result: Accuracy, k: int, later: int, task: Task) -> float:
    first, second = (result.answers[min(i, result.iterations)] for i in (k, later))
    return round(task.answer_distance(first, second)[result.mask].mean().item(), 6)


def _halting(model: "LoopedModule", iterations: int, examples: int, seed: int) -> dict[str, Any] | None:
    from ..recorder.record_run import record

    batch = model.task.batch(examples, seed)
    was_training = model.training
    run = record(model.eval(), batch.tokens, iterations, seed=seed)
    model.train(was_training)
    halting = model.halting(run)
    if halting is None:
        return None
    from scipy.stats import spearmanr

    def correlation(x: Tensor, y: Tensor) -> float | None:
        constant = len(x) < 2 or bool((y == y[0]).all() or (x == x[0]).all())
        rho: Any = float("nan") if constant else spearmanr(x, y)[0]
        return _number(round(float(rho), 6))

    iteration, mask = halting.iteration.double(), batch.mask
    answered = mask.any(0)
    mean = ((iteration * mask).sum(0) / mask.sum(0))[answered]
    # by example: the expected halting iteration, on average over its answers
    k = torch.arange(len(halting.weights), dtype=torch.float64)[:, None, None]
    expected = (((k * halting.weights).sum(0) * mask).sum(1) / mask.sum(1)).double()
    entropy = -(halting.weights.clamp(min=1e-30).log() * halting.weights).sum(0)[mask].mean()
    return {
        "by_position": [round(value, 4) for value in mean.tolist()],
        "spearman": correlation(torch.arange(len(mean)), mean),
        "difficulty": correlation(batch.difficulty.double(), expected),
        "by_difficulty": {
            f"{float(level):g}": round(expected[batch.difficulty == level].mean().item(), 4)
            for level in batch.difficulty.unique()[:MOST_LEVELS]
        },
        "entropy": round(max(entropy.item(), 0.0), 6),
        "mean": round(iteration[mask].mean().item(), 4),
        "halted": round(halting.halted[mask].double().mean().item(), 6),
    }


def _number(value: float) -> float | None:
    return value if value == value else None
