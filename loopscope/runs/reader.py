"""Reader: the model that made a run, with what is needed to read out any of the run's states."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.looped_model import Context
from ..core.state_tree import State


class Reader:
    """Reads out the states of a run, as long as the model's weights are those of the recording."""

    def __init__(
        self,
        model: Any,
        context: Context,
        decode: Callable[[State], Tensor] | None,
        state_type: type | None,
        *,
        grad: bool,
        edited: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """
        Arguments:
            context: what the model's `encode` gave for the run's tokens; None without one.
            decode: state to logits, with the run's own edits; None if a state can't be read out.
            state_type: the class of the model's named-tuple state; None for a single tensor.
            grad: whether the run was recorded with gradients.
            edited: makes a with-block in which the run's own edits of the read-out apply.
        """
        self._model, self._decode = model, decode
        self.context, self.state_type, self.grad, self.edited = context, state_type, grad, edited
        self._weights = _versions(model)

    @property
    def model(self) -> Any:
        """The model.

        Raises:
            LoopscopeError: its weights were changed since the run was recorded.
        """
        if _versions(self._model) != self._weights:
            raise LoopscopeError(
                "the model's weights were changed after this run was recorded, so what is computed now "
                "would not be this run's. Record again, or load the weights it had."
            )
        return self._model

    def logits(self, state: State, *, grad: bool = False) -> Tensor:
        """The logits (batch, position, vocab) of a state, with the run's own edits of the read-out.

        Arguments:
            grad: compute gradients, also if the run was recorded without.

        Raises:
            LoopscopeError: the run is of a module that was wrapped by its loop body.
        """
        if self._decode is None or self.model is None:
            raise LoopscopeError(
                "only the four functions can read out a state, and this module was wrapped by its loop body "
                "alone. run.output is what it returned after its last iteration."
            )
        with torch.set_grad_enabled(self.grad or grad):
            return self._decode(state)


def _versions(model: Any) -> tuple[tuple[int, int], ...]:
    parameters = model.parameters() if hasattr(model, "parameters") else ()
    return tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in parameters)
