"""Skip: leave an iteration out, of the whole batch or of a part of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..common.arguments import Index
from ..common.guard import guarded
from ..core.indexing import selector_text
from .compound_edit import CompoundEdit, UpdateSites
from .edits import Edit
from .freeze import FrozenSite, freeze
from .schedule import ScheduleEdit
from .selectors import checked_selectors


@dataclass(frozen=True)
class SkipPart(CompoundEdit):
    """An iteration that leaves a part of the state as it was."""

    iteration: int
    where: Mapping[str, Any] = field(default_factory=dict)

    def expand(self, fields: tuple[str, ...] = (), update_sites: UpdateSites | None = None) -> list[Edit]:
        """Every field of the state is held for this iteration, so that it doesn't matter what reads
        which within it."""
        span = slice(self.iteration, None if self.iteration == -1 else self.iteration + 1)
        sites = ["state", *(f"state.{name}" for name in fields[1:])]
        held = [edit for site in sites for edit in freeze(site, iteration=span, **self.where).expand()]
        return [replace(edit, whole=True) for edit in held if isinstance(edit, FrozenSite)]

    def __str__(self) -> str:
        place = "".join(f", {name}={selector_text(at)}" for name, at in self.where.items())
        return f"skip iteration {self.iteration}{place}"


@guarded
def skip(iteration: Index, **where: Any) -> ScheduleEdit | SkipPart:
    """Leave an iteration out: states[t+1] = states[t], and the sites inside have no value at t.

    >>> ls.record(model, tokens, edits=[ls.skip(5)])
    >>> ls.record(model, tokens, edits=[ls.skip(5, position=-1)])
    >>> ls.generate(wrapped, tokens, edits=[ls.skip(2, token=3)], max_new_tokens=8)

    An iteration that is skipped can't be repeated or swapped in the same run.

    Arguments:
        iteration: t; negative ones count from the end.
        where: `position=`, `batch=` by number, slice, list, array or mask: only these keep their
            state. The iteration runs, for the others and so that they can attend to these, and its
            sites have values. `token=` is for `generate` and `recording` alone.

    Raises:
        LoopscopeError: it is no whole number. When recorded: there is no such iteration, the loop
            ends before it, or another edit repeats, skips or swaps it. While a model generates: its
            state has several fields.
    """
    chosen = checked_selectors("skip", None, where)[1]
    return SkipPart(iteration, chosen) if chosen else ScheduleEdit(iteration, 0)
