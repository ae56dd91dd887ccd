"""TRM, the official code: one network in two roles (Jolicoeur-Martineau 2025, arXiv 2510.04871).

An iteration is one high cycle: L_cycles calls of `L_level` (axis low) on the low state, into which
high + input is injected, then one of the same network on the high state, into which low is. The
last iteration of a segment has gradients. Unless `no_ACT_continue` is False, the Q-head's first
value alone decides.
"""

from torch import Tensor, nn

from .carry_model import CarryModel
from .high_low import State


class Trm(CarryModel):
    """The class TinyRecursiveReasoningModel_ACTV1."""

    family = "an iteration is one high cycle, L_cycles calls of L_level (axis low) and one more of it"

    @property
    def high_network(self) -> nn.Module:
        return self.inner.L_level

    def first_with_gradient(self, t: int) -> int:
        return 0 if (t + 1) % self.iterations == 0 else self.module.config.L_cycles + 1

    def q_values(self, state: State) -> Tensor:
        """(batch, 1 or 2): the value of halting, and that of going on where it decides too."""
        values = super().q_values(state)
        return values[:, :1] if getattr(self.module.config, "no_ACT_continue", True) else values


def adapt(module: nn.Module) -> Trm:
    """The adapter of a TinyRecursiveReasoningModel_ACTV1."""
    return Trm(module)
