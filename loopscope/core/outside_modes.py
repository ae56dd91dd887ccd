"""outside_modes: a measurement computes without the caller's autocast and inference mode."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

DEVICES = ("cpu", "cuda", "mps", "xpu")
"""Types of devices that may have autocast."""


def autocast_dtypes() -> dict[str, torch.dtype | None]:
    """The dtype of autocast by type of device; None where it is off."""
    return {
        device: torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        for device in DEVICES
    }


@contextmanager
def outside_modes() -> Iterator[None]:
    """A block, or a function, without the caller's autocast and inference mode. What a measurement
    computes itself has the precision of its tensors, and what it lets a run's model compute has the
    conditions of the recording (`loopscope.runs.conditions`).

    >>> @outside_modes()
    ... def similarity(x, y): return x @ y.T
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            grad = torch.is_grad_enabled()
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.set_grad_enabled(grad))
        for device, dtype in autocast_dtypes().items():
            if dtype is not None:
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
