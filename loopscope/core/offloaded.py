"""Weights that accelerate keeps elsewhere, in the CPU's memory or on the disk, and loads for each
call of a module.

Two things go wrong with them: a forward that is left before its end leaves weights loaded, and what
a model holds itself, such as a first state, isn't there outside its forward.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn


def is_offloaded(module: nn.Module, *, buffers: bool = False) -> bool:
    """Whether accelerate keeps weights of this module elsewhere; with `buffers`, whether also its
    buffers."""
    if "_hf_hook" not in vars(module):  # as nearly always, and this is asked of every module
        return False
    return any(hook.offload_buffers or not buffers for hook in _hooks(module))


@contextmanager
def weights_at_hand(modules: Sequence[nn.Module]) -> Iterator[None]:
    """A block in which the tensors that modules with parts hold themselves stay loaded, and after
    which no weights are loaded that weren't before.

    Arguments:
        modules: those that are offloaded.
    """
    away = [(module, hook) for module in modules for hook in _hooks(module) if _is_away(module, hook)]
    loaded = []
    try:
        for module, hook in away:
            if next(module.children(), None) is not None and not hook.place_submodules:
                hook.pre_forward(module)
                hook.offload = False  # so that its calls neither load nor remove them
                loaded.append(hook)
        yield
    finally:
        for hook in loaded:
            hook.offload = True
        for module, hook in away:
            if not _is_away(module, hook):
                hook.post_forward(module, None)


def _hooks(module: nn.Module) -> list[Any]:
    """The hooks of accelerate that load weights of a module."""
    hook = vars(module).get("_hf_hook")  # by getattr every module without one would raise an error
    hooks = getattr(hook, "hooks", [hook])  # several are one that holds them
    return [hook for hook in hooks if getattr(hook, "weights_map", None) is not None]


def _is_away(module: nn.Module, hook: Any) -> bool:
    deep = hook.place_submodules
    buffers = module.buffers(recurse=deep) if hook.offload_buffers else ()
    return any(tensor.is_meta for tensor in (*module.parameters(recurse=deep), *buffers))
