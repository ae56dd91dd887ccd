"""The task of a run, and the labels of its tokens."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .. import tasks
from ..common.errors import LoopscopeError

if TYPE_CHECKING:
    from ..runs.run import Run
    from ..tasks import Batch, Task


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
