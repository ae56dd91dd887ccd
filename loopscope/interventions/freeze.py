"""Freeze: hold a part of the state, or any site, at its value, while the rest of the loop goes on.

    run = record(model, tokens, edits=[freeze("state.low", iteration=4)])   # states[4].low stays

A field of a state that is frozen in iteration t doesn't change in it: whatever else the iteration
computes reads the old value, and states[t+1] has it. A field that is updated several times in an
iteration (the low state of HRM and TRM) is held after each of these updates, whose sites the model
declares in `update_sites`:

    class Model(LoopedModule):
        update_sites = {"high": (), "low": ("hook_low",)}   # by field: the sites of its updates

A model that declares nothing should update each field once, from the old values of the others; if
it seems not to, freezing raises LoopscopeError. After Shen, Su & Kyrillidis 2026 (arXiv
2605.17811), who hold one state of a recursive model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..core.indexing import Selector, canonical_selector, select, selector_text
from ..core.sites import Sites, is_state
from .compound_edit import CompoundEdit, UpdateSites
from .edits import Edit
from .selectors import checked_selectors, selects
from .update_sites import state_field


@dataclass(frozen=True)
class Freeze(CompoundEdit):
    """A site held at its value, made by `freeze`."""

    site: Any
    first: int
    """The first iteration that leaves it unchanged."""
    last: int | None
    """The first iteration after it that changes it again; None: none does."""
    where: Mapping[str, Any] = field(default_factory=dict)

    def expand(self, fields: tuple[str, ...] = (), update_sites: UpdateSites | None = None) -> list[Edit]:
        """One edit of the site, and one of each site that an update of it passes; together they
        hold the value of one run."""
        iterations = slice(self.first, self.last)
        frozen = FrozenSite(self.site, "patch", None, iterations, self.where, memory=_Memory())
        updates = (update_sites or {}).get(state_field(self.site, fields) or "", ())
        return [frozen, *(replace(frozen, site=site, field_site=self.site) for site in updates)]

    def __str__(self) -> str:
        until = "on" if self.last is None else f"to before iteration {self.last}"
        place = "".join(f", {name}={selector_text(at)}" for name, at in self.where.items())
        return f"freeze of '{self.site}' from iteration {self.first} {until}{place}"


@guarded
def freeze(site: Sites = "state", *, iteration: Any = 0, **where: Any) -> Freeze:
    """Hold a site at the value that it has when an iteration begins.

    >>> ls.record(model, tokens, edits=[ls.freeze("state.low", iteration=4)])
    >>> ls.record(model, tokens, edits=[ls.freeze(position=0, iteration=slice(2, 6))])

    Arguments:
        site: `state` (the first field of a named tuple), `state.<field>`, or a site inside the
            loop. A site inside the loop is held at its value in that iteration, and in an inner
            loop each turn at its own. A pattern freezes every site that it matches.
        iteration: the first iteration without an update, which holds until the end, or a slice of
            iterations. `slice(0, -1)` of the state lets only the last iteration update it.
        where: `position=`, `batch=`, `head=`: the part that is held; the rest is free.

    Raises:
        LoopscopeError: `iteration` is neither a number nor a slice without a step. When recorded:
            it doesn't begin in one of the iterations that run, or no value comes after it.
    """
    try:
        chosen = canonical_selector(iteration, "iteration")
    except LoopscopeError:
        chosen = None
    span = slice(chosen, None) if isinstance(chosen, int) else chosen
    if not isinstance(span, slice) or span.step not in (None, 1):
        raise LoopscopeError(
            "freeze holds a site through iterations that follow each other, so iteration must be one "
            f"number, from which on it is held, or a slice without a step, but is {iteration!r}."
        )
    first = 0 if span.start is None else span.start
    return Freeze(site, first, span.stop, checked_selectors("freeze", None, where)[1])


class _Memory:
    """The values that a freeze holds, by call within an iteration."""

    def __init__(self) -> None:
        self.values: dict[Any, Tensor] = {}
        self.calls: dict[Any, tuple[Any, int]] = {}
        self.current: tuple[Any, bool] = ((), False)
        """The key of the call that is being edited, and whether its value begins to be held."""

    def call(self, site: str, axes: tuple[str, ...], index: tuple[int, ...]) -> Any:
        """A key of this call of the site: the same for the same call of every iteration."""
        before, count = self.calls.get((site, axes), (None, -1))
        count = count + 1 if before == index else 0
        self.calls[site, axes] = index, count
        return axes, index[1:], count


@dataclass(frozen=True, eq=False)
class FrozenSite(Edit):
    """One site of a freeze, in one run."""

    memory: _Memory = field(default_factory=_Memory, repr=False)
    field_site: str | None = None
    """For a site that updates of a state's field pass: the site of the field, whose value it
    takes."""
    whole: bool = False
    """Whether all fields of the state are held, so that none is computed from the new value of
    another that isn't."""

    def applies_at(self, axes: tuple[str, ...], index: tuple[int, ...], count: int | None) -> bool:
        turns = dict(zip(axes, index, strict=True))
        if "iteration" not in axes or not all(
            selects(self.where[name], turns[name], None) for name in axes if name in self.where
        ):
            return False
        state, t = is_state(self.site), index[axes.index("iteration")]
        frozen = self._iterations(None if count is None else count - state)
        if self.field_site is not None:
            self.memory.current = "state", False
            return t in frozen
        key = "state" if state else self.memory.call(self.site, axes, index)
        begins = t == frozen.start
        self.memory.current = key, begins
        # iteration t leaves states[t + 1] unchanged, and the values of the sites inside it
        return begins or t - state in frozen

    def apply(self, value: Tensor, axes: tuple[str, ...]) -> Tensor:
        key, begins = self.memory.current
        if begins:
            self.keep(value)
            return value
        if key not in self.memory.values:
            raise LoopscopeError(
                f"{self}: the value that it is held at must be recorded first, as that iteration begins, "
                "but wasn't. Freeze from a later iteration on; a run that is resumed, from where it goes on "
                "or later."
            )
        return super().apply(value, axes)

    def replacement(
        self, value: Tensor, part: Tensor, selection: tuple[Selector, ...], axes: tuple[str, ...]
    ) -> Tensor:
        held = self.memory.values[self.memory.current[0]]
        if held.shape != value.shape:
            raise LoopscopeError(
                f"{self}: the site's value must keep its shape while it is held, but goes from "
                f"{tuple(held.shape)} to {tuple(value.shape)}. Freeze fewer iterations."
            )
        return select(held, selection, f"{self}", axes).clone()

    def keep(self, value: Tensor) -> None:
        """Hold this value from now on, in the call in which holding begins."""
        key, begins = self.memory.current
        if begins:
            self.memory.values[key] = value.clone()  # the model may work in place

    def check_start(self, start: int, n: int) -> None:
        """Raise LoopscopeError if the freeze doesn't begin in one of the iterations start..n-1."""
        assert isinstance(self.iteration, slice)
        frozen = self._iterations(n)
        if self.iteration.start < -n or not start <= frozen.start < min(frozen.stop, n):
            raise LoopscopeError(
                f"{self}: it must begin at one of the iterations that are run, {start}..{n - 1}. "
                "Freeze from one of them on, or record more iterations."
            )

    def _iterations(self, n: int | None) -> range:
        """The iterations without an update, of n."""
        assert isinstance(self.iteration, slice)
        first, last, _ = self.iteration.indices(1 << 40 if n is None else n)
        return range(first, last)

    def __str__(self) -> str:
        assert isinstance(self.iteration, slice)
        site = self.field_site or self.site
        return str(Freeze(site, self.iteration.start, self.iteration.stop, self.where))
