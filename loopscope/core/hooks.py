"""Temporary hooks: read and change what goes into and comes out of a module while a with-block
runs.

A hook point, and a module that has hooks already, gets a PyTorch hook, which sees what earlier
hooks changed. Any other module has its `forward` wrapped on the instance instead, because a PyTorch
hook changes what some modules compute: nn.TransformerEncoderLayer leaves its fused path as soon as
one is attached, and may round differently then.

All hooks on one module share one wrapped `forward`, so they can be taken off in any order. A hook
belongs to the thread that attached it: a forward pass of another thread passes it by.
"""

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import nn

from .attention_pattern import AttentionPattern
from .fused_attention import FusedPattern

Before = Callable[[tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]
After = Callable[[tuple[Any, ...], dict[str, Any], Any], Any]


@dataclass(frozen=True, eq=False)
class Hook:
    """What is called before and after a module, in the thread that attached it."""

    before: Before | None
    after: After | None
    thread: int

    @property
    def applies(self) -> bool:
        """Whether a call that is made now is for this hook: in its thread, and not during a
        backward pass."""
        return threading.get_ident() == self.thread and not in_backward()


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
        """Call `before(args, kwargs)` and `after(args, kwargs, output)` at each call of `module` by
        this thread.

        `before` returns the (args, kwargs) to use, `after` the output to use. Of several hooks on
        one module, the last one's `before` is called first, and its `after` last. Calls during a
        backward pass are skipped: gradient checkpointing makes them to recompute activations.
        """
        if isinstance(module, FusedPattern) and after is not None:
            self._stack.enter_context(module.watching())
            before = module.begin
        if isinstance(module, AttentionPattern):
            after, module = module.hook(after) if after is not None else None, module.attention
        hook = Hook(before, after, threading.get_ident())
        if _hooked(module):
            self._register(module, hook)
        else:
            self._stack.callback(_wrap(module, hook))

    def _register(self, module: nn.Module, hook: Hook) -> None:
        if (before := hook.before) is not None:
            handle = module.register_forward_pre_hook(
                lambda _, args, kwargs: before(args, kwargs) if hook.applies else None, with_kwargs=True
            )
            self._stack.callback(handle.remove)
        if (after := hook.after) is not None:
            handle = module.register_forward_hook(
                lambda _, args, kwargs, output: after(args, kwargs, output) if hook.applies else None,
                with_kwargs=True,
            )
            self._stack.callback(handle.remove)


class _WrappedForward:
    """The `forward` on a module's instance that calls the hooks of the module."""

    def __init__(self, module: nn.Module) -> None:
        self.hooks: dict[int, list[Hook]] = {}
        """By the thread that attached them."""
        self.before = vars(module).get("forward")
        original = module.forward

        @wraps(original)  # transformers' generate reads its signature
        def forward(*args: Any, **kwargs: Any) -> Any:
            hooks = self.hooks.get(threading.get_ident(), ())
            if not hooks or in_backward():
                return original(*args, **kwargs)
            for hook in reversed(hooks):
                if hook.before is not None:
                    args, kwargs = hook.before(args, kwargs)
            output = original(*args, **kwargs)
            for hook in hooks:
                if hook.after is not None:
                    output = hook.after(args, kwargs, output)
            return output

        self.forward = forward

    def restore(self, module: nn.Module) -> None:
        """Give the module back the `forward` that it had. One that others have put around ours
        since stays: it passes through ours, which does nothing any more."""
        if vars(module).get("forward") is not self.forward:
            return
        if self.before is None:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = self.before


_wrapped_forwards: dict[int, _WrappedForward] = {}
"""By the id of a module, its wrapped `forward`, while it has hooks."""
_lock = threading.RLock()
"""Held while `_wrapped_forwards` and the lists in it change."""


def _wrap(module: nn.Module, hook: Hook) -> Callable[[], None]:
    """Attach a hook to a module by its `forward`; returns what takes it off again."""
    with _lock:
        wrapped = _wrapped_forwards.get(id(module))
        if wrapped is None or vars(module).get("forward") is not wrapped.forward:
            wrapped = _WrappedForward(module)
            # Not by __setattr__: a module around another may pass on what is set on it.
            vars(module)["forward"] = wrapped.forward
            _wrapped_forwards[id(module)] = wrapped
        # A new list each time: a call that is running goes over the one that it began with.
        wrapped.hooks[hook.thread] = [*wrapped.hooks.get(hook.thread, ()), hook]

    def remove() -> None:
        with _lock:
            left = [other for other in wrapped.hooks.get(hook.thread, ()) if other is not hook]
            if left:
                wrapped.hooks[hook.thread] = left
            else:
                wrapped.hooks.pop(hook.thread, None)
            if not wrapped.hooks:
                wrapped.restore(module)
                if _wrapped_forwards.get(id(module)) is wrapped:
                    del _wrapped_forwards[id(module)]

    return remove


def _after_fork() -> None:
    """In a new process no other thread holds the lock."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def in_backward() -> bool:
    """Whether autograd is running a backward pass in this thread."""
    return torch._C._current_graph_task_id() != -1


def _hooked(module: nn.Module) -> bool:
    attached = module._forward_hooks or module._forward_pre_hooks
    hook_point = type(module).__name__ == "HookPoint"
    return bool(attached) or hook_point or isinstance(module, torch.jit.ScriptModule)
