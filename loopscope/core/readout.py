"""ReadOut: what a lens must know about how a model reads a state out."""

from typing import Any

from torch import Tensor

from ..common.errors import LoopscopeError
from .looped_model import Context
from .state_tree import State, primary, with_primary


class ReadOut:
    """Three sentences beside `decode`, for our models and for adapters. The defaults fit a state
    that is read as it is.

    A law: `decode(with_read_vectors(state, read_vectors(state)), context)` is `decode(state,
    context)`.
    """

    def read_vectors(self, state: State) -> Tensor:
        """(batch, position, width): what `decode` reads of a state; the primary tensor, unless a
        model says otherwise."""
        return primary(state)

    def with_read_vectors(self, state: State, h: Tensor) -> Any:
        """A state of which `decode` reads `h` and nothing else: neither what has halted nor what
        was accumulated counts."""
        return with_primary(state, h)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        """(batch, position, vocab): the final norm and the unembedding of vectors, without any
        block on the way."""
        raise LoopscopeError(
            f"the logit lens needs a final norm and an unembedding, but {type(self).__name__} doesn't say "
            "what these are. Give "
            'it a method logits_of(h, context), or use the model\'s whole read-out: ls.lens(run, "coda").'
        )
