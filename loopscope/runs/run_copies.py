"""Copies of what a run holds: tensors in States, mappings and sequences."""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..core.lazy_values import LazyValues
from ..core.states import States


def copied(value: Any, memo: dict[int, Any]) -> Any:
    """A deep copy. Tensors keep their graph, which `copy.deepcopy` refuses.

    Arguments:
        memo: as `copy.deepcopy` passes it; a tensor in two places stays one.
    """

    def clone(tensor: Tensor) -> Tensor:
        if id(tensor) not in memo:
            memo[id(tensor)] = tensor.clone()
            memo.setdefault(id(memo), []).append(tensor)  # alive, so that its id stays its own
        return memo[id(tensor)]

    return _mapped(value, clone, lambda other: copy.deepcopy(other, memo))


def detached(value: Any) -> Any:
    """The same without any graph, for another process."""
    return _mapped(value, lambda tensor: tensor.detach(), lambda other: other)


def _mapped(value: Any, tensor: Callable[[Tensor], Tensor], other: Callable[[Any], Any]) -> Any:
    if isinstance(value, Tensor):
        return tensor(value)
    if isinstance(value, States) and isinstance(value.by_index, LazyValues):
        return value.with_values(other(value.by_index))  # which says where they are
    if isinstance(value, States):
        return value.with_values({index: tensor(one) for index, one in value.items()})
    if type(value) is dict:
        return {key: _mapped(one, tensor, other) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_mapped(one, tensor, other) for one in value)
    return other(value)
