"""The logit lens of a zoo model: its final norm and its unembedding."""

from torch import Tensor

from ..core.looped_model import Context
from ..core.readout_protocol import ReadOut


class UnembedReadOut(ReadOut):
    """A read-out with the parts `ln_final` and `unembed`. A model whose parts have other names
    overrides `logits_of`."""

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        """`unembed` after `ln_final`, if the model has one.

        Raises:
            LoopscopeError: the model has no part `unembed`.
        """
        norm, unembed = getattr(self, "ln_final", None), getattr(self, "unembed", None)
        if unembed is None:
            return super().logits_of(h, context)
        return unembed(h if norm is None else norm(h))
