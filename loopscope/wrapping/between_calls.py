"""Which modules are called between two calls of a loop's body."""

from collections.abc import Callable, Collection
from typing import Any

from torch import nn

from ..core.hooks import TemporaryHooks
from ..core.sites import modules_of
from .substituted_pass import SubstitutedPass


def modules_between_calls(
    module: nn.Module, body: Collection[str], one: SubstitutedPass, forward: Callable[[], Any]
) -> frozenset[str]:
    """The names of the modules that are called between two calls of the body, and not before the
    first.

    Arguments:
        one: counts the iterations while `forward` runs.
        forward: the module's own, with the body's calls substituted.
    """
    calls: dict[str, set[int]] = {}

    def attach(hooks: TemporaryHooks, name: str, part: nn.Module) -> None:
        def before(args: Any, kwargs: Any) -> Any:
            calls.setdefault(name, set()).add(one.done)
            return args, kwargs

        hooks.attach(part, before=before)

    with TemporaryHooks() as hooks:
        for name, part in modules_of(module).items():
            if name not in body:
                attach(hooks, name, part)
        forward()
    inside = set(range(1, one.done))
    return frozenset(name for name, seen in calls.items() if 0 not in seen and seen & inside)
