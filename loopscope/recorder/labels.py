"""The task of a run, the labels of its tokens, and what its tokens and positions are called."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .. import tasks
from ..common.errors import LoopscopeError

if TYPE_CHECKING:
    from ..runs.run import Run
    from ..tasks import Batch, Task


_SHOWN = 40
"""Tokens of an example that a menu lists."""


def task_of(run: "Run") -> "Task | None":
    """The task that the run's model was trained on: the model's attribute `task`, or the task that
    the run's origin names. None if there is neither."""
    try:
        task: Any = getattr(run.model, "task", None)
    except LoopscopeError:  # the run has no model, or the model was changed since
        task = None
    if task is not None:
        return task
    origin = run.origin.get("task")
    if origin is None or origin["name"] not in tasks.names():
        return None
    return tasks.build(origin["name"], **origin["options"])


def task_key(run: "Run") -> Hashable:
    """What tells the task of a run from others: its kind and options."""
    task = task_of(run)
    return type(task), repr(task)


def labels_of(run: "Run") -> "Batch | None":
    """The run's tokens with their correct answers, mask and difficulty; None if the run has no
    task, or its tokens are no examples of it. Only positions that count are in the mask."""
    task = task_of(run)
    if task is None or not isinstance(run.tokens, Tensor):
        return None
    try:
        labels = task.label(run.tokens.cpu())
    except LoopscopeError:  # tokens of another kind
        return None
    if run.counted.everything or labels.mask.shape != run.mask.shape:
        return labels
    return replace(labels, mask=labels.mask & run.mask)


def symbol_of(run: "Run") -> Callable[[int], str]:
    """What a token id is called: the task's symbol if the run's tokens are examples of its task; a
    tokenizer's string, where one came with the tokens or the model has one; else the id."""
    task = task_of(run) if labels_of(run) is not None else None
    if task is not None and task.symbols:
        symbols = task.symbols
        return lambda token: symbols[token] if 0 <= token < len(symbols) else str(token)
    strings = run.origin.get("token_strings") or {}
    tokenizer: Any = getattr(run.model, "tokenizer", None) if run.has_model else None

    def name(token: int) -> str:
        string = strings.get(str(token))
        if string is None and hasattr(tokenizer, "convert_ids_to_tokens"):
            string = tokenizer.convert_ids_to_tokens(token)
        return str(token) if string is None else str(string)

    return name


def inputs_of(run: "Run") -> list[list[str]] | None:
    """What stands at each position of each example, as the model reads it; None unless the run's
    tokens are ids (batch, position)."""
    tokens = run.tokens
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.is_floating_point():
        return None
    symbol = symbol_of(run)
    return [[symbol(token) for token in row] for row in tokens.tolist()]


def example_names(run: "Run", rows: Sequence[int]) -> list[str]:
    """The examples with these numbers as a menu lists them: number and tokens."""
    inputs, task = inputs_of(run), task_of(run)
    if inputs is None:
        return [f"example {row}" for row in rows]
    separator = task.separator if task is not None and labels_of(run) is not None else " "
    return [
        f"example {row}: {separator.join(inputs[row][:_SHOWN])}{' …' * (len(inputs[row]) > _SHOWN)}"
        for row in rows
    ]


def position_names(run: "Run", positions: int) -> list[str]:
    """What positions are called where examples are pooled: as the task names them; the token that
    all examples have there; else the position's number."""
    numbers = [str(p) for p in range(positions)]
    task, inputs = task_of(run), inputs_of(run)
    if task is not None and labels_of(run) is not None and (names := task.position_names(positions)):
        return names
    if inputs is None or len(inputs[0]) != positions or len(inputs) < 2:
        return numbers
    return [
        column[0] if len(set(column)) == 1 else number
        for column, number in zip(zip(*inputs, strict=True), numbers, strict=True)
    ]
