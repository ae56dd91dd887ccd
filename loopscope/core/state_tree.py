"""The state of a loop as a tree: one tensor, or a named tuple whose first field is the primary one.

Whatever walks over a state does it with these functions. The name of a state that is one tensor is
"state".
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

State = Any
"""What a loop carries from one iteration to the next: one tensor (batch, position, width), or a
named tuple of tensors whose first field is the primary one. Each model has its own type."""


def field_names(state: State) -> tuple[str, ...]:
    """The names of a state's tensors, the primary one first; empty if the state is one tensor."""
    return () if isinstance(state, Tensor) else type(state)._fields


def items(state: State) -> dict[str, Tensor]:
    """A state's tensors by name, the primary one first."""
    return {"state": state} if isinstance(state, Tensor) else state._asdict()


def tensors(state: State) -> list[Tensor]:
    """A state's tensors, the primary one first."""
    return [state] if isinstance(state, Tensor) else list(state)


def float_items(state: State) -> dict[str, Tensor]:
    """The floating-point tensors of a named tuple by name; a state that is one tensor as it is."""
    if isinstance(state, Tensor):
        return items(state)
    return {name: part for name, part in items(state).items() if part.is_floating_point()}


def floats(state: State) -> list[Tensor]:
    """The tensors of `float_items`."""
    return list(float_items(state).values())


def primary(state: State) -> Tensor:
    """The tensor that `run.states` shows: the state itself, or the first field of a named tuple."""
    return state if isinstance(state, Tensor) else state[0]


def map_state(function: Callable[..., Any], state: State, *others: Any) -> Any:
    """A state of what `function` gives for each tensor, and for its counterparts in `others`."""
    if isinstance(state, Tensor):
        return function(state, *others)
    return type(state)(*(function(*parts) for parts in zip(state, *others, strict=True)))


def from_tensors(like: Any, parts: Iterable[Tensor]) -> Any:
    """A state of the form of `like` from its tensors, in their order: the inverse of `tensors`."""
    parts = list(parts)
    return parts[0] if isinstance(like, Tensor) else type(like)(*parts)


def with_items(state: State, parts: Mapping[str, Tensor]) -> Any:
    """A state with some tensors replaced, by name."""
    return parts.get("state", state) if isinstance(state, Tensor) else state._replace(**parts)


def with_primary(state: State, h: Tensor) -> Any:
    """A state with another primary tensor."""
    return with_items(state, {next(iter(items(state))): h})


def with_floats(state: State, parts: Iterable[Tensor]) -> Any:
    """A state with its floating-point tensors replaced, in the order of `floats`."""
    return with_items(state, dict(zip(float_items(state), parts, strict=True)))


def detach(state: State) -> Any:
    """A state that no gradient goes back through."""
    return map_state(Tensor.detach, state)


def select_rows(state: State, rows: Any) -> Any:
    """Some rows of a state's batch: a slice, a list of numbers or a mask."""
    return map_state(lambda part: part[rows], state)


def repeat_rows(state: State, count: int) -> Any:
    """A state's batch `count` times, one batch after the other."""
    return map_state(lambda part: part.repeat(count, *[1] * (part.ndim - 1)), state)


def equal(state: State, other: Any) -> bool:
    """Whether two states of one form hold the same numbers."""
    return all(torch.equal(a, b) for a, b in zip(tensors(state), tensors(other), strict=True))


def through_sites(state: State, site: nn.Module) -> Any:
    """Pass the primary tensor through `site`, and each other field through `site.<field>`."""
    if isinstance(state, Tensor):
        return site(state)
    first, *others = items(state).items()
    return type(state)(site(first[1]), *(site.get_submodule(name)(part) for name, part in others))
