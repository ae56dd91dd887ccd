"""CompoundEdit: an intervention that consists of several edits."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .edits import Edit

UpdateSites = Mapping[str, Sequence[str]]
"""By field of a state: the sites that an update of it passes inside an iteration."""


class CompoundEdit:
    """Base of interventions that become several edits, once the run's model is known."""

    def expand(
        self, fields: tuple[str, ...] = (), update_sites: UpdateSites | None = None
    ) -> "Sequence[Edit]":
        """The edits, for one run.

        Arguments:
            fields: the names of the state's tensors, the primary one first; empty for one tensor.
            update_sites: by field, the sites that an update of it passes inside an iteration.
        """
        raise NotImplementedError(f"{type(self).__name__} must define expand().")
