"""What every model says of its halting unless it has some: nothing."""

from typing import Any

from torch import nn

from .exit_rules import Rule


class NoHalting:
    """A model that runs as many iterations as it is told. One that halts says otherwise."""

    @property
    def halting_unit(self) -> nn.Module | None:
        """The module whose output is the logit of halting, (batch, position, 1): the site
        `halting`. None if there is none."""
        return None

    @property
    def rule(self) -> Rule | None:
        """The model's own halting as a rule, whose threshold can be moved; None for a model that
        doesn't halt."""
        return None

    def halting(self, run: Any) -> Any:
        """The run's `Halting`, for a model that halts; None for others."""
        return None
