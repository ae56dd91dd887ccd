"""NoHalting: defaults for models that never halt early."""

from typing import TYPE_CHECKING

from torch import nn

from .rule import Rule

if TYPE_CHECKING:
    from ..runs.run import Run
    from .halting_record import Halting


class NoHalting:
    """A model that always runs all its iterations. A model that halts overrides these."""

    @property
    def halting_unit(self) -> nn.Module | None:
        """The module whose output is the logit of halting, (batch, position, 1): the site
        `halting`. None if there is none."""
        return None

    @property
    def rule(self) -> Rule | None:
        """The model's own halting as a rule, whose threshold can be changed; None for a model that
        doesn't halt."""
        return None

    def halting(self, run: "Run") -> "Halting | None":
        """The run's `Halting`, for a model that halts; None for others."""
        return None
