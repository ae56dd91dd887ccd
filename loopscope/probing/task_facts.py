"""A task's facts as labels of positions."""

from typing import Any

from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..tasks import Fact, Task


def fact_labels(task: Task | None, tokens: Any, name: str) -> tuple[Tensor, Tensor]:
    """(values, mask), (batch, position) both, of a fact of the task about these tokens.

    Raises:
        LoopscopeError: there is no task, or it has no such fact.
    """
    if task is None or not isinstance(tokens, Tensor):
        raise LoopscopeError(
            f"the fact {name!r} comes from the task of the run's model, but this run has none. Pass labels "
            "of your own."
        )
    facts = task.facts(tokens.cpu())
    if name not in facts:
        raise LoopscopeError(f"{task.name} has no fact called {name!r}. {nearest(name, facts)}")
    return labels_at_positions(facts[name], task.mask(tokens.cpu()))


def labels_at_positions(fact: Fact, answer_mask: Tensor) -> tuple[Tensor, Tensor]:
    """(values, mask), (batch, position) both: a fact of positions as it is, a fact of the whole
    example at the answer positions."""
    if fact.values.ndim == 2:
        return fact.values, fact.mask
    return fact.values[:, None].expand(answer_mask.shape), fact.mask[:, None] & answer_mask
