"""Prefix: what a module computes before its loop, kept, so that it is computed once.

The outputs of the modules that ran before the body's first call are given again in later passes
over the same inputs. What is computed between their calls runs again.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from ..core.copied import copied
from ..core.hooks import TemporaryHooks

Outputs = list[list[Any]]
"""For each module, in the order of `kept_modules`, what its calls before the loop returned."""


def kept_modules(module: nn.Module, body: Sequence[nn.Module]) -> list[nn.Module]:
    """The modules whose outputs can be kept: those that aren't the body, nor a part of it, nor
    contain it, nor have hooks of others, which might do more than compute."""
    of_body = {part for member in body for part in member.modules()}
    result = []
    for part in module.modules():
        if any(inner in of_body for inner in part.modules()) or any(True for _ in _hooks(part)):
            continue
        result.append(part)
    return result


@contextmanager
def kept_outputs(modules: Sequence[nn.Module], before_loop: Callable[[], bool]) -> Iterator[Outputs]:
    """Keeps what the outermost calls of these modules return, as long as `before_loop()`."""
    outputs: Outputs = [[] for _ in modules]
    depth = 0

    def attach(hooks: TemporaryHooks, number: int, part: nn.Module) -> None:
        def before(args: Any, kwargs: Any) -> Any:
            nonlocal depth
            depth += 1
            return args, kwargs

        def after(args: Any, kwargs: Any, output: Any) -> Any:
            nonlocal depth
            depth -= 1
            if depth == 0 and before_loop():
                outputs[number].append(copied(output) if _plain(output) else None)
            return output

        hooks.attach(part, before=before, after=after)

    with TemporaryHooks() as hooks:
        for number, part in enumerate(modules):
            attach(hooks, number, part)
        yield outputs


@contextmanager
def replayed_outputs(
    modules: Sequence[nn.Module], outputs: Outputs, before_loop: Callable[[], bool]
) -> Iterator[None]:
    """Inside the with-block, calls of these modules give what was kept, as long as
    `before_loop()`. A module of which a call couldn't be kept is computed."""
    thread = threading.get_ident()

    def replaced(original: Any, values: Iterator[Any]) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == thread and before_loop():
                value = next(values, None)
                if value is not None:
                    return copied(value)
            return original(*args, **kwargs)

        return forward

    with ExitStack() as stack:
        for part, values in zip(modules, outputs, strict=True):
            if not values or any(value is None for value in values):
                continue
            stack.callback(_restored, part, vars(part).get("forward"))
            vars(part)["forward"] = replaced(part.forward, iter(values))
        yield


def _restored(part: nn.Module, previous: Any) -> None:
    if previous is None:
        del vars(part)["forward"]
    else:
        vars(part)["forward"] = previous


def _plain(value: Any) -> bool:
    """Whether a value consists of tensors alone, so that a copy of it is as good."""
    if isinstance(value, tuple | list):
        return type(value) in (tuple, list) and all(_plain(one) for one in value)
    if isinstance(value, dict):
        return type(value) is dict and all(_plain(one) for one in value.values())
    return type(value) is Tensor


def _hooks(part: nn.Module) -> Iterator[Any]:
    yield from part._forward_hooks.values()
    yield from part._forward_pre_hooks.values()
