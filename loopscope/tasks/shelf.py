"""The shelf of tasks. An item is a subclass of `Task`; its `name` is its name on the shelf."""

import inspect
from types import ModuleType
from typing import Any

from ..common.errors import LoopscopeError
from ..common.shelf import Shelf, source_name
from .addition import Addition
from .composition import Composition
from .hops import Hops
from .mano import Mano
from .modular_addition import ModularAddition
from .modular_chain import ModularChain
from .parity_ones import ParityOnes
from .prefix_parity import PrefixParity
from .regression import Regression
from .roots import Roots
from .strings import Copy, Reverse
from .sudoku import Sudoku
from .task import Task

OURS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        Addition, Composition, Copy, Hops, Mano, ModularAddition, ModularChain, ParityOnes, PrefixParity,
        Regression, Reverse, Roots, Sudoku,
    )
}  # fmt: skip
_ADVICE = "loopscope new task NAME writes one to start from."


def _within(module: ModuleType) -> list[type[Task]]:
    """The tasks that a module defines itself; those that it imports are others'."""
    own = [
        one for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Task) and one.__module__ == module.__name__
    ]  # fmt: skip
    return [one for one in dict.fromkeys(own) if not inspect.isabstract(one)]


def _holds(thing: Any) -> bool:
    if isinstance(thing, ModuleType):
        return bool(_within(thing))
    return isinstance(thing, Task) or (isinstance(thing, type) and issubclass(thing, Task))


def _read(thing: Any, name: str | None) -> tuple[str, Any]:
    tasks = _within(thing) if isinstance(thing, ModuleType) else [thing] if _holds(thing) else []
    if len(tasks) != 1:
        several = ", ".join(one.__name__ for one in tasks)
        reason = f"defines {several}" if tasks else "is none"
        raise LoopscopeError(
            "A task must be a subclass of loopscope.tasks.Task, one of its instances, or a file that defines "
            f"one, but {source_name(thing)} {reason}. {_ADVICE}"
        )
    kind: type = tasks[0] if isinstance(tasks[0], type) else type(tasks[0])
    if inspect.isabstract(kind):
        missing = ", ".join(sorted(getattr(kind, "__abstractmethods__", ())))
        raise LoopscopeError(f"The task {kind.__name__} must define {missing}, but doesn't. {_ADVICE}")
    title = getattr(kind, "name", None)
    if not isinstance(title, str) or not title or "_" in title or "/" in title:
        raise LoopscopeError(
            f"The task {kind.__name__} must have a name, of words with hyphens, but has {title!r}. Write "
            'e.g. name = "running-maximum" in the class.'
        )
    return title, kind


TASKS = Shelf(
    "task", "loopscope.tasks", ours=lambda: sorted(OURS), load=OURS.__getitem__, holds=_holds, read=_read
)
