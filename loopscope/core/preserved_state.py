"""A pass that leaves no trace: random generators and a module's buffers as they were before it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from ..common.rng import generator_state, restore_generator
from .turns import modules_within


class ModuleState:
    """What a forward pass may change besides its inputs: random generators (those of PyTorch, NumPy
    and Python) and the buffers of a module. Taken when made."""

    def __init__(self, module: nn.Module) -> None:
        self._torch, self._python, self._numpy = generator_state(), random.getstate(), np.random.get_state()
        self._kept = [
            (part, name, buffer, None if buffer is None else buffer.detach().clone())
            for part in modules_within(module)
            for name, buffer in part._buffers.items()
        ]

    def restore(self) -> None:
        """Put everything back as it was."""
        restore_generator(self._torch)
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        with torch.no_grad():
            for part, name, buffer, copy in self._kept:
                if buffer is not None and copy is not None and not torch.equal(buffer, copy):
                    buffer.copy_(copy)
                part._buffers[name] = buffer


@contextmanager
def preserved_state(module: nn.Module) -> Iterator[None]:
    """Restore random generators and buffers after the with-block."""
    before = ModuleState(module)
    try:
        yield
    finally:
        before.restore()
