"""What a run was asked: its task, the right answers, and how hard each example is."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..common.errors import LoopscopeError

if TYPE_CHECKING:
    from ..runs.run import Run
    from ..tasks import Batch, Task


def task_of(run: "Run") -> "Task | None":
    """The task that the run's model was trained on: the model's own, or the one that the run's file
    names."""
    from .. import tasks

    try:
        own: Any = getattr(run.model, "task", None)
    except LoopscopeError:  # no model, or another one by now
        own = None
    if own is not None:
        return own
    named = run.origin.get("task")
    return (
        tasks.build(named["name"], **named["options"]) if named and named["name"] in tasks.names() else None
    )


def labels_of(run: "Run") -> "Batch | None":
    """The run's tokens with their right answers, mask and difficulty; None if they are no examples
    of a known task."""
    task = task_of(run)
    if task is None or not isinstance(run.tokens, Tensor):
        return None
    try:
        return task.label(run.tokens.cpu())
    except LoopscopeError:  # tokens of another kind
        return None
