"""A model that repeats one block. Say here: the package, what an iteration is, and the paper."""

from typing import Any

from torch import Tensor

from loopscope.adapters.base import Adapter


class MyAdapter(Adapter):
    """The model as four functions, which call its own modules in its own order."""

    model_class = "TheirModel"  # the class whose models `ls.wrap(model)` gives this adapter to
    family = "an iteration is one call of block, whose result is added to the state"

    @property
    def iterations(self) -> int:
        """The model's own depth."""
        return self.module.depth

    def encode(self, tokens: Tensor, **inputs: Any) -> Tensor:
        """What is computed once, before the loop."""
        return self.module.embed(tokens)

    def initial(self, context: Tensor) -> Tensor:
        """states[0]."""
        return context

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        """states[t + 1] from states[t]."""
        return state + self.module.block(self.core_in(state))

    def decode(self, state: Tensor, context: Tensor) -> Tensor:
        """(batch, position, vocab): the logits, after the loop."""
        return self.module.head(state)
