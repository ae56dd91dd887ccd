"""ReadOut: how a model turns a state into logits, as the lenses need it."""

from typing import Any

from torch import Tensor

from ..common.errors import LoopscopeError
from .looped_model import Context
from .state_tree import State, primary, with_primary


class ReadOut:
    """Three methods that belong to `decode`, for models of the zoo and for adapters. The defaults
    fit a model whose `decode` reads the primary tensor of the state.

    A law: `decode(with_read_vectors(state, read_vectors(state)), context)` equals `decode(state,
    context)`.
    """

    def read_vectors(self, state: State) -> Tensor:
        """(batch, position, width): the part of a state that `decode` reads; by default the primary
        tensor."""
        return primary(state)

    def with_read_vectors(self, state: State, h: Tensor) -> Any:
        """A state from which `decode` reads `h` (batch, position, width) and nothing else: no
        halted or accumulated output."""
        return with_primary(state, h)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        """(batch, position, vocab): the final norm and the unembedding of `h`, without any block.

        Raises:
            LoopscopeError: the model defines no such read-out.
        """
        raise LoopscopeError(
            f"the logit lens needs a final norm and an unembedding, but {type(self).__name__} doesn't say "
            "what these are. Give "
            'it a method logits_of(h, context), or use the model\'s whole read-out: ls.lens(run, "coda").'
        )
