"""RepeatedWindow: a window of layers of a feed-forward model, repeated without training."""

from collections.abc import Sequence

from torch import Tensor, nn

from .synthetic_loop import LayerContext, SyntheticLoop
from .update_rules import UpdateRule


class RepeatedWindow(SyntheticLoop):
    """One iteration runs every layer of the window once, and an update rule makes the next state
    of what they return. states[0] is what the model itself gives the window.

    More iterations than `repeat` go on with the same map: damped ones still take 1 / `repeat` of a
    step each.
    """

    def __init__(self, module: nn.Module, names: Sequence[str], repeat: int, rule: UpdateRule) -> None:
        super().__init__(module, names)
        self.repeat, self.update_rule = repeat, rule
        self.family = f"an iteration is one pass through {', '.join(self.names)}"

    @property
    def iterations(self) -> int:
        return self.repeat

    def advance(self, state: Tensor, context: LayerContext, t: int) -> Tensor:
        image = self.core_in(state)
        image = image.clone() if context.in_place else image
        for layer, call in zip(self.layers(), context.calls, strict=True):
            image = call.computed(layer, image)
        return self.update_rule.following(state, image, self.repeat)

    def read(self, state: Tensor, context: LayerContext) -> Tensor:
        return self.update_rule.read(state, context.once)
