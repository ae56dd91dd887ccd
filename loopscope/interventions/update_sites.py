"""Which sites the updates of a state's field pass, and whether a model must declare them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.looped_model import Context, Looped, step_at
from ..core.sites import is_state
from ..core.state_tree import State, items, map_state


def state_field(site: str, fields: tuple[str, ...]) -> str | None:
    """The field of a named-tuple state that a site is; None if it is none."""
    if not fields or not is_state(site):
        return None
    return fields[0] if site == "state" else site.removeprefix("state.")


def check_update_sites(
    model: Looped, frozen: Sequence[str], state: State, context: Context, *, t: int
) -> None:
    """Raise LoopscopeError if a frozen field would still change inside an iteration, where other
    fields read it after its update.

    For a model that doesn't declare `update_sites`, one iteration is run again to see whether it
    has inner loops, and whether another field is computed from the new value of a frozen one.

    Arguments:
        frozen: names of the frozen fields.
        state: states[t].
    """
    declared = getattr(model, "update_sites", None) or {}
    undeclared = [name for name in frozen if name not in declared]
    if not undeclared:
        return
    new, inner_loops = _one_iteration(model, state, context, t)
    for name in undeclared:
        readers = _fields_computed_from(new, name)
        if readers or inner_loops:
            reason = (
                f"{type(model).__name__} has inner loops ({', '.join(sorted(inner_loops))}) that may update "
                "it several times"
                if inner_loops
                else f"{type(model).__name__} computes '{readers[0]}' from its new value within an iteration"
            )
            raise LoopscopeError(
                f"to freeze '{name}' it must be held after every update, but {reason}. Pass each update "
                "through a HookPoint and "
                f'declare it in the model: update_sites = {{"{name}": ("hook_{name}",)}}; () if the field '
                "is updated once, after all others."
            )


def _one_iteration(model: Looped, state: State, context: Context, t: int) -> tuple[State, set[str]]:
    """states[t+1] with its graph, and the names of the inner loops that ran."""
    clock, before = model.clock, model.clock.inner_loops
    with torch.enable_grad(), torch.random.fork_rng():
        leaves = map_state(lambda part: part.detach().requires_grad_(part.is_floating_point()), state)
        clock.inner_loops = set()
        try:
            new = step_at(model, leaves, context, t)
        finally:
            inner_loops, clock.inner_loops = clock.inner_loops, before
    return new, inner_loops


def _fields_computed_from(state: State, name: str) -> list[str]:
    """The other fields whose graph contains the node that computed the field `name`."""
    parts: dict[str, Tensor] = items(state)
    node = parts[name].grad_fn
    if node is None:
        return []
    return [other for other, part in parts.items() if other != name and _contains(part.grad_fn, node)]


def _contains(root: Any, node: Any) -> bool:
    """Whether the graph below `root` contains a node."""
    visited, heap = set(), [root]
    while heap:
        current = heap.pop()
        if current is node:
            return True
        if current is not None and current not in visited:
            visited.add(current)
            heap += [before for before, _ in current.next_functions]
    return False
