"""ReadOutNames: what of a module's read-out can't be seen from the calls of its body."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from ..common.errors import LoopscopeError, nearest


@dataclass(frozen=True)
class ReadOutNames:
    """Names of modules and of an argument; None where nothing was said."""

    head: str | None = None
    """The module that returns the logits."""
    norm: str | None = None
    """The norm that its input passes, for the logit lens."""
    count: str | None = None
    """The argument of the forward that sets the number of iterations."""


def read_out_names(
    module: nn.Module, modules: Mapping[str, nn.Module], head: str | None, norm: str | None, count: str | None
) -> ReadOutNames:
    """The names from the arguments of `wrap`.

    Raises:
        LoopscopeError: a name is no submodule, or no argument of the forward.
    """
    for word, name in (("head", head), ("norm", norm)):
        if name is not None and name not in modules:
            raise LoopscopeError(
                f"{word} must name a submodule, but there is no {name!r}. {nearest(str(name), modules)}"
            )
    if norm is not None and head is None:
        raise LoopscopeError(
            f"norm={norm!r} comes before a head, but head is None. Name the module that makes the logits: "
            "head=..."
        )
    if count is not None:
        parameters = inspect.signature(module.forward).parameters
        open_ended = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        if count not in parameters and not open_ended:
            raise LoopscopeError(
                f"count must name an argument of the forward of {type(module).__name__} that sets the number "
                f"of iterations, but {count!r} is none. {nearest(str(count), parameters)}"
            )
    return ReadOutNames(head, norm, count)
