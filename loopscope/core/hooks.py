"""Temporary hooks: read and change what goes into and comes out of a module while a with-block
runs.

A hook point, and a module that has hooks already, gets a PyTorch hook, which sees what earlier
hooks changed. Any other module has its `forward` wrapped on the instance instead, because a PyTorch
hook changes what some modules compute: nn.TransformerEncoderLayer leaves its fused path as soon as
one is attached, and may round differently then.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import wraps
from typing import Any

import torch
from torch import nn

Before = Callable[[tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]
After = Callable[[tuple[Any, ...], dict[str, Any], Any], Any]


class TemporaryHooks(AbstractContextManager["TemporaryHooks"]):
    """Functions attached to modules; all are removed at the end of the with-block, also after an
    exception.

    >>> with TemporaryHooks() as hooks:
    ...     hooks.attach(model.core[0], after=lambda args, kwargs, output: 2 * output)
    ...     doubled = model(tokens)
    """

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def attach(self, module: nn.Module, before: Before | None = None, after: After | None = None) -> None:
        """Call `before(args, kwargs)` and `after(args, kwargs, output)` at each call of `module`.

        `before` returns the (args, kwargs) to use, `after` the output to use. Calls during a
        backward pass are skipped: gradient checkpointing makes them to recompute activations.
        """
        if _hooked(module):
            self._hook(module, before, after)
        else:
            self._wrap(module, before, after)

    def _hook(self, module: nn.Module, before: Before | None, after: After | None) -> None:
        if before is not None:
            handle = module.register_forward_pre_hook(
                lambda _, args, kwargs: None if in_backward() else before(args, kwargs), with_kwargs=True
            )
            self._stack.callback(handle.remove)
        if after is not None:
            handle = module.register_forward_hook(
                lambda _, args, kwargs, output: None if in_backward() else after(args, kwargs, output),
                with_kwargs=True,
            )
            self._stack.callback(handle.remove)

    def _wrap(self, module: nn.Module, before: Before | None, after: After | None) -> None:
        instance_forward = vars(module).get("forward")
        original = module.forward

        @wraps(original)  # transformers' generate reads its signature
        def forward(*args: Any, **kwargs: Any) -> Any:
            if in_backward():
                return original(*args, **kwargs)
            if before is not None:
                args, kwargs = before(args, kwargs)
            output = original(*args, **kwargs)
            return output if after is None else after(args, kwargs, output)

        def restore() -> None:
            if instance_forward is None:
                vars(module).pop("forward", None)
            else:
                vars(module)["forward"] = instance_forward

        # Not by __setattr__: a module around another may pass on what is set on it.
        vars(module)["forward"] = forward
        self._stack.callback(restore)


def in_backward() -> bool:
    """Whether autograd is running a backward pass in this thread."""
    return torch._C._current_graph_task_id() != -1


def _hooked(module: nn.Module) -> bool:
    attached = module._forward_hooks or module._forward_pre_hooks
    hook_point = type(module).__name__ == "HookPoint"
    return bool(attached) or hook_point or isinstance(module, torch.jit.ScriptModule)
