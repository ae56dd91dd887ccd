"""Parts of a model's own forward pass: the inputs of one of its modules, and the pass with another
output in place of a module's."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..common.errors import LoopscopeError
from ..core.hooks import TemporaryHooks

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a call."""


def first_inputs(model: nn.Module, part: nn.Module, *args: Any, **kwargs: Any) -> Inputs:
    """The inputs of `part` at its first call in the forward pass of `model`, which ends there.

    Raises:
        LoopscopeError: the forward pass doesn't call `part`.
    """

    def stop(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise _FirstCall(args, kwargs)

    with TemporaryHooks() as hooks:
        hooks.attach(part, before=stop)
        try:
            model(*args, **kwargs)
        except _FirstCall as call:
            return call.args, call.kwargs
    raise LoopscopeError(
        f"{type(model).__name__}'s forward must call {type(part).__name__}, but didn't with these "
        "inputs. Name the part that repeats yourself: ls.wrap(model, body=...)."
    )


@contextmanager
def replaced_forward(part: nn.Module, replacement: Callable[..., Any]) -> Iterator[None]:
    """Call `replacement` instead of `part`'s forward and the hooks on it, in this thread."""
    previous, original, thread = vars(part).get("forward"), part.forward, threading.get_ident()

    def forward(*args: Any, **kwargs: Any) -> Any:
        return (replacement if threading.get_ident() == thread else original)(*args, **kwargs)

    vars(part)["forward"] = forward
    try:
        yield
    finally:
        if previous is None:
            del vars(part)["forward"]
        else:
            vars(part)["forward"] = previous


def without_cache(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a forward pass that stores no keys and values. With a cache, an iteration that
    runs twice would attend to itself.

    Raises:
        LoopscopeError: a cache was passed.
    """
    if inputs.get("past_key_values") is not None:
        raise LoopscopeError(
            "a pass that is iterated must not have a cache, but past_key_values was passed. Record what "
            "really ran with `with ls.recording(model) as run:`, or ls.generate."
        )
    return dict(inputs) | {"use_cache": False}


class _FirstCall(BaseException):
    """Carries the inputs out of a forward pass; no `except Exception` in the model catches it."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.args, self.kwargs = args, kwargs  # pyright: ignore[reportIncompatibleVariableOverride]
