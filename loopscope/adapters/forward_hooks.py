"""Parts of a model's own forward pass: the inputs of one of its modules, the order of its calls,
and the pass with another output in place of a module's."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..common.errors import LoopscopeError
from ..core.hooks import TemporaryHooks

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a call."""


@dataclass
class Call:
    """A call of a part of a model."""

    name: str
    takes_one_tensor: bool
    """Whether a tensor is its only argument."""
    values: tuple[tuple[Any, ...], Any] | None
    """Its arguments and its output; None if it is neither the first call of the part nor the
    last."""


def first_inputs(model: nn.Module, part: nn.Module, *args: Any, **kwargs: Any) -> Inputs:
    """The inputs of `part` at its first call in the forward pass of `model`, which ends there.

    Raises:
        LoopscopeError: the forward pass doesn't call `part`, or doesn't take one of the arguments.
    """

    def stop(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise _FirstCall(args, kwargs)

    with TemporaryHooks() as hooks:
        hooks.attach(part, before=stop)
        try:
            with naming_unknown_inputs(model, kwargs):
                model(*args, **kwargs)
        except _FirstCall as call:
            return call.args, call.kwargs
    raise LoopscopeError(
        f"{type(model).__name__}'s forward must call {type(part).__name__}, but didn't with these "
        "inputs. Name the part that repeats yourself: ls.wrap(model, body=...)."
    )


@contextmanager
def naming_unknown_inputs(model: nn.Module, inputs: Mapping[str, Any]) -> Iterator[None]:
    """Inside the with-block, an input that the model's forward doesn't take is refused by name."""
    try:
        yield
    except TypeError as error:
        found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if found is None or found.group(1) not in inputs:
            raise
        raise LoopscopeError(
            f"the forward of {type(model).__name__} must take every input, but doesn't take "
            f"'{found.group(1)}'. Leave it out."
        ) from error


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


@contextmanager
def recorded_calls(parts: Mapping[str, nn.Module]) -> Iterator[list[Call]]:
    """The calls of these parts inside the with-block, in their order. What a part calls inside
    itself isn't listed."""
    calls: list[Call] = []
    latest: dict[str, list[Call]] = {name: [] for name in parts}
    depth = 0

    def attach(hooks: TemporaryHooks, name: str, part: nn.Module) -> None:
        def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            nonlocal depth
            depth += 1
            return args, kwargs

        def after(args: Any, kwargs: Any, output: Any) -> Any:
            nonlocal depth
            depth -= 1
            if depth == 0:
                given = (*args, *kwargs.values())
                call = Call(name, len(given) == 1 and isinstance(given[0], Tensor), (given, output))
                if len(latest[name]) > 1:  # neither the first nor the last
                    latest[name].pop().values = None
                latest[name].append(call)
                calls.append(call)
            return output

        hooks.attach(part, before=before, after=after)

    with TemporaryHooks() as hooks:
        for name, part in parts.items():
            attach(hooks, name, part)
        yield calls


def members(module: nn.Module, prefix: str = "") -> dict[str, nn.Module]:
    """The parts that a module calls itself, by name: its children, and the members of those that
    are only lists or dictionaries of modules."""
    result: dict[str, nn.Module] = {}
    for name, child in module.named_children():
        listed = isinstance(child, nn.ModuleList | nn.ModuleDict)
        result |= members(child, f"{prefix}{name}.") if listed else {f"{prefix}{name}": child}
    return result


def first_values(calls: Sequence[Call], prefix: str, *, last: bool = False) -> tuple[tuple[Any, ...], Any]:
    """The arguments and the output of the first call, or the last, of the parts whose names begin
    with `prefix`."""
    found = [call.values for call in calls if call.name.startswith(prefix) and call.values is not None]
    return found[-1 if last else 0]


class _FirstCall(BaseException):
    """Carries the inputs out of a forward pass; no `except Exception` in the model catches it."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.args, self.kwargs = args, kwargs  # pyright: ignore[reportIncompatibleVariableOverride]
