"""Weights that accelerate keeps elsewhere, and loads for each call of a module."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn


@contextmanager
def direct_weights(module: nn.Module) -> Iterator[None]:
    """Load what modules with parts hold themselves, such as a first state, while the with-block
    runs. A part without parts is loaded when it is called."""
    offloaded = [
        part
        for part in module.modules()
        if hasattr(part, "_hf_hook")
        and any(parameter.is_meta for parameter in part.parameters(recurse=False))
        and next(part.children(), None) is not None
    ]
    with ExitStack() as stack:
        if offloaded:
            from accelerate.utils import align_module_device

            for part in offloaded:
                stack.enter_context(align_module_device(part))
        yield
