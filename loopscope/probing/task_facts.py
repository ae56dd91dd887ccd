"""A task's facts as labels of positions."""

from typing import Any

from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..tasks import Fact, Task


def named(task: Task | None, tokens: Any, name: str) -> tuple[Tensor, Tensor]:
    """(values, mask), (batch, position) both, of a fact that the task tells of these tokens.

    Raises:
        LoopscopeError: there is no task, or it tells no such fact.
    """
    if task is None or not isinstance(tokens, Tensor):
        raise LoopscopeError(
            f"the fact {name!r} is told by the task of the run's model, but this run has none. Pass labels "
            "of your own."
        )
    facts = task.facts(tokens.cpu())
    if name not in facts:
        raise LoopscopeError(f"{task.name} has no fact called {name!r}. {nearest(name, facts)}")
    return placed(facts[name], task.mask(tokens.cpu()))


def placed(fact: Fact, asked: Tensor) -> tuple[Tensor, Tensor]:
    """(values, mask) of each position: a fact of positions as it is, one of the whole example where
    the answer is asked."""
    if fact.values.ndim == 2:
        return fact.values, fact.mask
    return fact.values[:, None].expand(asked.shape), fact.mask[:, None] & asked
