"""Recorded values in temporary files, where they would fill the memory.

A run that is larger than the memory is mapped from files. What a measurement records besides, such
as the iterations beyond it, is about as large: it is mapped from files too. They have no name once
they are mapped, so that nothing is left of them when the process ends, however it ends.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..common.errors import LoopscopeError

if TYPE_CHECKING:
    from .run import Run

LARGE = 512_000_000
"""Bytes of values that stay in memory."""
_SPILLING: ContextVar[bool] = ContextVar("spilling", default=False)


@contextmanager
def spilling(active: bool) -> Iterator[None]:
    """A with-block in which recorded values go to temporary files, if `active`."""
    token = _SPILLING.set(active)
    try:
        yield
    finally:
        _SPILLING.reset(token)


def is_spilling() -> bool:
    """Whether recorded values go to temporary files."""
    return _SPILLING.get()


def is_large_in_files(run: "Run", iterations: int) -> bool:
    """Whether a run is mapped from files, and so many more iterations of its states are LARGE."""
    states = run.states
    one = states[states.iterations[-1]]
    return not states.in_memory and iterations * one.nbytes > LARGE


def spilled(value: Tensor) -> Tensor:
    """A copy of a value in a file of its own.

    Raises:
        LoopscopeError: there is no room for it.
    """
    if not value.numel():
        return value.clone()
    try:
        with tempfile.NamedTemporaryFile(prefix="loopscope-") as file:
            file.truncate(value.numel() * value.itemsize)
            if hasattr(os, "posix_fallocate"):  # fails where there is no room, instead of at a write
                os.posix_fallocate(file.fileno(), 0, value.numel() * value.itemsize)
            copy = torch.from_file(file.name, shared=True, size=value.numel(), dtype=value.dtype)
    except (OSError, RuntimeError) as error:
        raise LoopscopeError(
            f"there must be room for values in {tempfile.gettempdir()} ({error}). Free some, or choose "
            "another folder: the environment variable TMPDIR."
        ) from error
    copy = copy.view(value.shape)
    copy.copy_(value)
    return copy
