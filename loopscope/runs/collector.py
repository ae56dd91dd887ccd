"""The collector: takes in values while a loop runs, keeps what is asked for, and makes States of
them.

It keeps references, which costs nothing; a tensor's version counter tells afterwards whether it was
changed in place. It copies only where a reference would not do: for a slice (whose whole would stay
in memory), under inference mode (no version counter), and where in-place changes must be expected
(`copy=True`).
"""

from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.sites import axes_of, is_state
from ..core.states import States
from .keep import Keep


class Entry(NamedTuple):
    """One recorded value."""

    loops: tuple[str, ...]
    index: tuple[int, ...]
    value: Tensor
    axes: tuple[str, ...]
    version: int | None
    grad: bool
    """Whether gradients were on when the model computed it."""
    rows: Tensor | None = None
    """The numbers of the rows that it has, where some have left the batch."""


class Collector:
    def __init__(self, keep: Keep, grad: bool, copy: bool | None = None, careful: bool = False) -> None:
        """
        Arguments:
            grad: keep the values attached to their graph; only a reference can be differentiated
                at.
            copy: never keep a reference. None: where in-place changes must be expected (`careful`),
                and always where only a part of a tensor is kept.
        """
        self.keep, self.grad = keep, grad
        self.copy = copy if copy is not None else careful and not grad
        self._entries: dict[str, list[Entry]] = defaultdict(list)
        self.state: Tensor | None = None
        """The latest primary state, whole: it names the other sites' axes."""
        self.rows: Tensor | None = None
        """The numbers of the rows that are in the batch now, where they are followed."""
        self.batch: int | None = None
        """How many there were at first."""

    def fresh(self) -> "Collector":
        """One of the same kind that has nothing yet."""
        other = Collector(self.keep, self.grad)
        other.copy = self.copy
        return other

    def take(self, site: str, loops: tuple[str, ...], index: tuple[int, ...], value: Tensor) -> Tensor:
        """Record one value of a site at a loop index (empty outside the loop). Returns what must
        flow on in its place: with gradients a view, so that a gradient at the recorded value is
        that of what passes this site, and not of what else the model made of the same tensor before
        it.
        """
        if self.grad and value.requires_grad and torch.is_grad_enabled():
            value = value.view_as(value)
        self._keep(site, loops, index, value)
        return value

    def _keep(self, site: str, loops: tuple[str, ...], index: tuple[int, ...], value: Tensor) -> None:
        if site == "state":
            self.state = value
        if index and index[0] % self.keep.stride:
            return
        kept, axes = self.keep.value(value, axes_of(site, value, self.state), site)
        if not self.grad:
            kept = kept.detach()
        if self._must_copy(kept) and _share(kept, value):
            kept = kept.clone()
        version = None if kept.is_inference() else kept._version
        rows = self.rows if self.rows is not None and len(self.rows) == len(value) else None
        self._entries[site].append(Entry(loops, index, kept, axes, version, torch.is_grad_enabled(), rows))
        if self.keep.last is not None and index:
            self._forget(site, index[0] - self.keep.last)

    def _must_copy(self, value: Tensor) -> bool:
        if self.copy or self.grad:
            return self.copy
        return value.is_inference() or value.untyped_storage().nbytes() > value.nbytes

    def _forget(self, site: str, newest: int) -> None:
        self._entries[site] = [e for e in self._entries[site] if not e.index or e.index[0] > newest]

    @property
    def sites(self) -> list[str]:
        """The sites that were recorded, in the order of their first calls."""
        return list(self._entries)

    def entries(self, site: str) -> list[Entry]:
        """What was recorded at a site."""
        return self._entries[site]

    def replace(self, site: str, entries: list[Entry]) -> None:
        """Put other entries in place of a site's."""
        self._entries[site] = entries

    def finish(self, iterations: int, start: int = 0) -> dict[str, States | Tensor]:
        """What was recorded, by site: States inside the loop, a Tensor for a site that is called
        once outside it.

        A site that is called several times within one index gets an axis `call`; one that is called
        in several loops, or inside and outside, gives its deepest loop under its own name and the
        others as `name@outside`, `name@iteration`.
        """
        result: dict[str, States | Tensor] = {}
        for site, entries in self._entries.items():
            self._check_untouched(site, entries)
            groups: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
            for entry in entries:
                groups[entry.loops].append(entry)
            ordered = sorted(groups, key=len, reverse=True)
            for number, loops in enumerate(ordered):
                name = f"{site}@{'.'.join(loops) or 'outside'}" if number else site
                own = [_widened(entry, self.batch) for entry in groups[loops]]
                result[name] = _as_states(name, loops, own, iterations + is_state(site), grad=self.grad)
        return result

    def _check_untouched(self, site: str, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.version is not None and entry.value._version != entry.version:
                where = f" at iteration {entry.index[0]}" if entry.index else ""
                raise LoopscopeError(
                    f"'{site}'{where} was changed in place after it was recorded, so its value is lost. "
                    "Record again with copy=True (values that are copied can't be differentiated at)."
                )


def _share(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _as_states(
    name: str, loops: tuple[str, ...], entries: list[Entry], length: int, *, grad: bool
) -> States | Tensor:
    turns: dict[tuple[int, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        turns[entry.index].append(entry)
    axes = entries[0].axes
    if all(len(own) == 1 for own in turns.values()):
        if not loops:
            return turns[()][0].value
        single = {index: own[0] for index, own in turns.items()}
        return _states(name, single, loops + axes, length, grad=grad)
    several = {(*index, call): entry for index, own in turns.items() for call, entry in enumerate(own)}
    return _states(name, several, (*loops, "call", *axes), length if loops else len(several), grad=grad)


def _states(
    name: str, entries: dict[tuple[int, ...], Entry], axes: tuple[str, ...], length: int, *, grad: bool
) -> States:
    rows = {index: entry.rows for index, entry in entries.items() if entry.rows is not None}
    without = [index for index, entry in entries.items() if not entry.grad] if grad else []
    values = {index: entry.value for index, entry in entries.items()}
    return States(name, values, axes, length, rows=rows, without_grad=without)


def _widened(entry: Entry, batch: int | None) -> Entry:
    """The entry with a row for everyone of the first batch, NaN for those that have left, and
    `rows` as a mask."""
    rows, value = entry.rows, entry.value
    if rows is None or batch is None or len(rows) == batch or not value.is_floating_point():
        return entry._replace(rows=None)
    whole = value.new_full((batch, *value.shape[1:]), float("nan"))
    mask = torch.zeros(batch, dtype=torch.bool)
    mask[rows] = True
    return entry._replace(value=whole.index_copy(0, rows.to(value.device), value), rows=mask)
