"""LayerPath: the layers of a feed-forward model in any order, each as often as one likes."""

from collections.abc import Sequence

from torch import Tensor, nn

from .synthetic_loop import LayerContext, SyntheticLoop


class LayerPath(SyntheticLoop):
    """One iteration is one layer: states[k] is the residual stream after k layers of the path. A
    layer receives besides the state what it receives in the model's own pass.

    Paths that execute, skip or repeat each layer (Dr.LLM: Heakl et al. 2025, arXiv 2510.12773) are
    orders; with the model's own order, `ls.skip(t)`, `ls.repeat(t)` and `ls.swap(t, u)` edit it.
    Iterations beyond the path run its last layer again.
    """

    def __init__(self, module: nn.Module, names: Sequence[str], order: Sequence[int]) -> None:
        super().__init__(module, names)
        self.order = list(order)
        self.family = "an iteration is one layer, in the order " + ", ".join(map(str, self.order))

    @property
    def iterations(self) -> int:
        return len(self.order)

    def advance(self, state: Tensor, context: LayerContext, t: int) -> Tensor:
        number = self.order[min(t, len(self.order) - 1)]
        x = self.core_in(state)
        return context.calls[number].computed(self.layers()[number], x.clone() if context.in_place else x)
