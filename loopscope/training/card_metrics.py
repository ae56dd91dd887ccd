"""The numbers that an entry's header and card tell, measured on fresh examples."""

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
"""Examples measured on; more where each has one answer, or a number as its answer, so that chance
moves the score by less than a point."""


def measured(model: "LoopedModule", examples: int | None = None, seed: int = SEED) -> dict[str, Any]:
    """The task's score at the model's own length and at twice that, by iteration; how far answers
    have settled; halting.

    Arguments:
        examples: None: as many as `enough` says.

    Returns, as JSON can say it:
        score: what is measured, such as "accuracy"; dial: the option that lengthens examples.
        accuracy, sequences: mean score, and fraction of sequences wholly right, at the model's own
        length and iterations. changed: what running for twice the iterations changes, for tokens
        the fraction of answers. moved: the last relative step of the state, at the position where
        its mean is largest. twice: the same at twice the length, with twice the iterations; None
        where task or model don't go so far. by_iteration: {"iterations": k, "length": score,
        "twice": score or None}. by_difficulty: {"unit": ..., "levels": ..., "iterations": k,
        "score": by iteration and level}, for tasks of few levels. halting: mean halting iteration
        by position, its rank correlation with the position and with the difficulty; for
            models that halt.
    """
    task, n = model.task, model.iterations
    own = task.options[task.difficulty_option]
    examples = enough(task) if examples is None else examples
    there = accuracy(model, task, 2 * n, examples, seed=seed)
    twice = None
    if task.difficulty_limit is None or 2 * own <= task.difficulty_limit:
        with contextlib.suppress(LoopscopeError):  # a model of learned positions has a longest input
            twice = accuracy(model, task, 3 * n, examples, seed=seed, **{task.difficulty_option: 2 * own})
    numbers = {
        "examples": examples,
        "seed": seed,
        "score": task.score,
        "dial": task.difficulty_option,
        "length": own,
        "iterations": n,
        **_scores(there, n, 2 * n, task),
        "moved": _number(_at(there.moved, n)),
        "twice": None
        if twice is None
        else {"length": 2 * own, "iterations": 2 * n, **_scores(twice, 2 * n, 3 * n, task)},
        "by_iteration": _by_iteration(there, twice, n),
    }
    if len(there.by_difficulty) > 1:
        numbers["by_difficulty"] = _by_difficulty(there, n, task)
    halting = _halting(model, n, min(examples, EXAMPLES), seed)
    return numbers if halting is None else numbers | {"halting": halting}


def _scores(result: Accuracy, k: int, later: int, task: Task) -> dict[str, float]:
    return {
        "accuracy": _at(result.positions, k),
        "sequences": _at(result.sequences, k),
        "changed": _changed(result, k, later, task),
    }


def _by_iteration(there: Accuracy, twice: Accuracy | None, n: int) -> dict[str, Any]:
    shown = sorted({*range(0, 2 * n + 1, max(1, n // 8)), n, 2 * n})
    return {
        "iterations": shown,
        "length": [_at(there.positions, k) for k in shown],
        "twice": None if twice is None else [_at(twice.positions, k) for k in shown],
    }


def _by_difficulty(there: Accuracy, n: int, task: Task) -> dict[str, Any]:
    levels, few = there.by_difficulty, sorted({0, n // 4, n // 2, n, 2 * n})
    return {
        "unit": task.difficulty_unit,
        "levels": list(levels),
        "iterations": few,
        "score": [[_at(values, k) for values in levels.values()] for k in few],
    }


def enough(task: Task) -> int:
    """How many examples tell the task's score to about half a point."""
    few = task.continuous or int(task.batch(1, SEED).mask.sum()) == 1
    return ONE_ANSWER if few else EXAMPLES


def _at(values: Tensor, k: int) -> float:
    """The value after k iterations, or where the model had left the loop before."""
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
        alike = len(x) < 2 or bool((y == y[0]).all() or (x == x[0]).all())  # then there is no order
        ranked: Any = float("nan") if alike else spearmanr(x, y)[0]
        return _number(round(float(ranked), 6))

    iteration, asked = halting.iteration.double(), batch.mask
    answered = asked.any(0)
    mean = ((iteration * asked).sum(0) / asked.sum(0))[answered]
    # by example: the iteration expected of the whole distribution, over its answers
    k = torch.arange(len(halting.weights), dtype=torch.float64)[:, None, None]
    expected = (((k * halting.weights).sum(0) * asked).sum(1) / asked.sum(1)).double()
    entropy = -(halting.weights.clamp(min=1e-30).log() * halting.weights).sum(0)[asked].mean()
    return {
        "by_position": [round(value, 4) for value in mean.tolist()],
        "spearman": correlation(torch.arange(len(mean)), mean),
        "difficulty": correlation(batch.difficulty.double(), expected),
        "by_difficulty": {
            f"{float(level):g}": round(expected[batch.difficulty == level].mean().item(), 4)
            for level in batch.difficulty.unique()[:MOST_LEVELS]
        },
        "entropy": round(max(entropy.item(), 0.0), 6),
        "mean": round(iteration[asked].mean().item(), 4),
        "halted": round(halting.halted[asked].double().mean().item(), 6),
    }


def _number(value: float) -> float | None:
    return value if value == value else None
