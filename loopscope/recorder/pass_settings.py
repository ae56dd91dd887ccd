"""pass_settings: what holds during a recorded pass, and is put back after it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from ..common.errors import LoopscopeError
from ..core.turns import check_no_pass, modules_within, parts_of, turn
from ..runs.weights import Marks, buffer_marks


@contextmanager
def pass_settings(model: Any, grad: bool, seed: int | None) -> Iterator[Marks]:
    """A block in which this thread alone computes with the model, gradients are on or off, and
    torch's generator is seeded; with None it runs on. Afterwards the generator is what it was, and
    the model's clock shows no iteration, also after an exception.

    Yields the model's buffers before the pass, by which it shows later which of them the pass
    changes.

    Raises:
        LoopscopeError: inside a recording of the same model.
    """
    parts = parts_of(model)
    check_no_pass(parts, "a recording")
    with turn(parts, seeded=seed is not None), _without_inference(model, grad), torch.set_grad_enabled(grad):
        before = buffer_marks(model)
        try:
            with torch.random.fork_rng(enabled=seed is not None):
                if seed is not None:
                    torch.manual_seed(seed)
                yield before
        finally:
            clock = getattr(model, "clock", None)
            if clock is not None:
                clock.set()
                clock.hidden = False


def _without_inference(model: Any, grad: bool) -> AbstractContextManager[Any]:
    """A block outside inference mode, whose tensors can't be differentiated at later, nor changed,
    nor do they count their changes. It changes no number. Weights that were made in inference mode
    need it."""
    tensors = (
        tensor
        for module in modules_within(model)
        for tensor in (*module._parameters.values(), *module._buffers.values())
    )
    if not torch.is_inference_mode_enabled():
        return nullcontext()
    if any(tensor is not None and tensor.is_inference() for tensor in tensors):
        if grad:
            raise LoopscopeError(
                "grad=True needs weights that can be differentiated at, but this model's were made within "
                "torch.inference_mode(). Make the model outside of it."
            )
        return nullcontext()
    return torch.inference_mode(False)
