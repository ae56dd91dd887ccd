"""SiteEdits: the edits of one pass, applied where the values of their sites appear."""

from collections.abc import Mapping

from torch import Tensor, nn

from ..core.sites import is_state
from ..interventions.applied import CALL, Applied
from ..interventions.edit_checks import check_axes
from ..interventions.edits import Edit
from .state_axes import StateAxes
from .tensor_match import fresh_copy

ITERATION = ("iteration",)


class SiteEdits:
    """Applies edits, and keeps account of where each has applied."""

    def __init__(
        self,
        by_site: Mapping[str, list[Edit]],
        *,
        count: int | None,
        axes: StateAxes,
    ) -> None:
        """
        Arguments:
            count: the number of iterations; edits that count from the end need it.
            axes: names the axes of the sites.
        """
        self.by_site, self.count, self.axes = by_site, count, axes
        self.applied = Applied()

        self.latest: list[tuple[Edit, int]] = []
        """Each edit of certain iterations, with the last one in which it applied."""

    def apply(
        self,
        site: str,
        value: Tensor,
        index: tuple[int, ...],
        *,
        like: Tensor | None,
        loops: tuple[str, ...] = ITERATION,
        module: nn.Module | None = None,
    ) -> Tensor:
        """The value after the edits of its site: a tensor of its own if there are any, else
        `value` itself.

        Arguments:
            index: of each running loop in `loops`.
            like: the latest state.
            module: that gave the value, if it is a module's.
        """
        edits = self.by_site.get(site)
        if not edits:
            return value
        count = None if self.count is None else self.count + is_state(site)
        new = value
        loops, index = (*loops, CALL), (*index, self.applied.call(site, loops, index))
        for edit in edits:
            axes = self.axes.of(site, value, like, module)
            check_axes(edit, axes + loops)
            if edit.applies_at(loops, index, count):
                new, before = edit.apply(new, axes), new
                if new is not before:  # else a freeze that only begins
                    self.applied.apply(edit, loops, index)
                if edit.iteration is not None:
                    others = [pair for pair in self.latest if pair[0] is not edit]
                    self.latest = [*others, (edit, index[0])]
        return new if new is value else fresh_copy(new, value)
