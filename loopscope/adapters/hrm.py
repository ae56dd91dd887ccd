"""HRM, the official code (Wang et al. 2025, arXiv 2506.21734).

An iteration is one high cycle: L_cycles calls of `L_level` (axis low) on the low state, into which
high + input is injected, then one of `H_level` on the high state, into which low is. Only the last
call of each has gradients.
"""

from torch import nn

from .carry_model import CarryModel


class Hrm(CarryModel):
    """The class HierarchicalReasoningModel_ACTV1."""

    family = "an iteration is one high cycle, L_cycles calls of L_level (axis low) and one of H_level"

    @property
    def high_network(self) -> nn.Module:
        return self.inner.H_level

    def first_with_gradient(self, t: int) -> int:
        count = self.module.config.L_cycles
        return count - 1 if (t + 1) % self.iterations == 0 else count + 1


def adapt(module: nn.Module) -> Hrm:
    """The adapter of a HierarchicalReasoningModel_ACTV1."""
    return Hrm(module)
