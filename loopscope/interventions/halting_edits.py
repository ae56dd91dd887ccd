"""Edits of halting: force it at an iteration, or shift it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..common.arguments import Index
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..core.indexing import selector_text
from .compound_edit import CompoundEdit, UpdateSites
from .edits import Edit, add
from .selectors import Where, checked_selectors

_CERTAIN = 1e4
"""A logit whose sigmoid is exactly 1 in every precision; that of its negative is exactly 0."""


@dataclass(frozen=True)
class HaltAt(CompoundEdit):
    """Halting in one iteration, neither before nor after."""

    iteration: int
    where: Mapping[str, Any] = field(default_factory=dict)
    site: Any = "halting"
    """The unit that gives the logit of halting."""

    def expand(self, fields: tuple[str, ...] = (), update_sites: UpdateSites | None = None) -> list[Edit]:
        """Patches of the halting logit: probability 0 before the iteration, and 1 in it."""
        before = [Edit(self.site, "patch", -_CERTAIN, slice(0, self.iteration), self.where, self)]
        return before[: self.iteration] + [
            Edit(self.site, "patch", _CERTAIN, self.iteration, self.where, self)
        ]

    def __str__(self) -> str:
        place = "".join(f", {name}={selector_text(at)}" for name, at in self.where.items())
        return f"halt at iteration {self.iteration}{place}"


@guarded
def halt_at(iteration: Index, *, site: str = "halting", **where: Any) -> HaltAt:
    """Force positions to halt in an iteration, whatever the halting unit computes.

    >>> ls.record(model, tokens, edits=[ls.halt_at(2, position=-1)])
    >>> ls.generate(wrapped, tokens, edits=[ls.halt_at(1, token=5)], max_new_tokens=8)

    Needs a model with a halting unit that is evaluated in every iteration (adaptive computation
    time, an exit gate), and whose answer follows it. While Huginn generates, the passes run one
    iteration more than `iteration`, for all of their positions.

    Arguments:
        iteration: t, 0-based: after `halt_at(0)` one iteration counts.
        site: the unit; of a module wrapped by its body, the module that gives a logit of halting in
            every iteration, by its name.
        where: `position=`, `batch=` by number, slice, list, array or mask; without it, everywhere.
            `token=` is for `generate` and `recording` alone.

    Raises:
        LoopscopeError: the iteration is no whole number of 0 or more. When recorded: the loop has
            fewer iterations, or ends before it. While a model generates: its answer isn't that of
            the iteration.
    """
    if iteration < 0:
        raise LoopscopeError(
            "halt_at needs an iteration counted from 0, which means the same in a run of any length, "
            f"but got {iteration!r}. To let positions halt later, see bias_halting."
        )
    return HaltAt(iteration, checked_selectors("halt_at", None, where)[1], site)


@guarded
def bias_halting(value: Any, *, iteration: Where = None, site: str = "halting", **where: Any) -> Edit:
    """Add `value` to the halting unit's logit: above 0 positions halt earlier, below 0 later.

    >>> ls.record(model, tokens, edits=[ls.bias_halting(-2.0)])

    To transplant halting from another run, record it with `sites=["halting"]` and patch:
    `ls.patch("halting", value=donor["halting"][3], iteration=3)`.

    Arguments:
        value: a number, or anything else that `patch` takes.
        site: as for `halt_at`.
        iteration, where: as for `patch`. `token=` is for `generate` and `recording` alone.

    Raises:
        LoopscopeError: as for `patch`.
    """
    return add(site, value=value, iteration=iteration, **where)
