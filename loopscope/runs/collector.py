"""Collector: records values while a loop runs, and makes States of them.

It stores references, which cost nothing; a tensor's version counter shows afterwards whether it was
changed in place. It copies only where a reference isn't enough: of a slice (whose base would stay
in memory), under inference mode (no version counter), and where values may be changed in place
(`copy=True`).
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.same_bytes import same_bytes
from ..core.sites import axes_of, is_state
from ..core.states import States
from .entry import Entry
from .finished_sites import finished_sites, full_batch
from .keep import Keep
from .kept_form import Form, form_of
from .spilled import is_spilling, spilled
from .value_store import ValueStore


class Collector:
    """Collects the values of all sites in one forward pass."""

    def __init__(
        self,
        keep: Keep,
        grad: bool,
        copy: bool | None = None,
        careful: bool = False,
        store: ValueStore | None = None,
    ) -> None:
        """
        Arguments:
            grad: keep the values attached to their graph, as references: a copy can't be
                differentiated at.
            copy: True copies every value, False none. None: copy if values may be changed in place
                (`careful`), and whenever only a part of a tensor is kept.
            store: where values are written as they come; None: they stay in memory.

        Raises:
            LoopscopeError: with gradients, if values are to be moved or shortened.
        """
        if grad and (keep.device is not None or keep.dtype is not None):
            raise LoopscopeError(
                "grad=True needs values as they were computed, but keep= stores others in their place "
                f"(keep={keep}), which can't be differentiated at. Leave out keep.to(...), or grad=True."
            )
        self.keep, self.grad, self.store = keep, grad, store
        self.copy = copy if copy is not None else careful and not grad
        self._entries: dict[str, list[Entry]] = defaultdict(list)
        self.state: Tensor | None = None
        """The latest primary state, whole: the axes of other sites are named by its shape."""
        self._state_shape: torch.Size | None = None
        self.axes: Callable[[str, Tensor, Tensor | None], tuple[str, ...]] = axes_of
        """Names the axes of a site's value, given the latest state."""
        self.rows: Tensor | None = None
        """The numbers of the rows in the batch, if rows can leave it; None otherwise."""
        self.batch: int | None = None
        """The number of rows at first."""
        self.forms: dict[str, Form] = {}
        """How the states were computed, by site."""
        self.short: torch.dtype | None = None
        """The dtype that a state was rounded to; None: they are kept as they were computed."""
        self.moved = False
        """Whether a state was moved to another device."""
        self._plain = keep.whole and keep.device is None and keep.dtype is None
        """Whether values are kept as they are."""
        self._axes: dict[Any, tuple[str, ...]] = {}
        """By site and shapes: the names of its axes."""
        self._copies = self.copy and self._plain and not grad and store is None
        """Whether each value is copied as it is."""
        self._copied: tuple[Tensor, Tensor] | None = None
        """The latest value that was copied whole, and its copy: one tensor may pass several
        sites."""
        self._fresh = False
        """Whether that is the value taken last."""

    def fresh(self) -> "Collector":
        """An empty collector with the same settings."""
        if self.store is not None:
            self.store.restart()
        return Collector(self.keep, self.grad, self.copy, store=self.store)

    def take(
        self,
        site: str,
        loops: tuple[str, ...],
        index: tuple[int, ...],
        value: Tensor,
        copy: Tensor | None = None,
    ) -> Tensor:
        """Record one value of a site at a loop index (empty outside the loop).

        Arguments:
            copy: one that holds the same numbers already, and that nobody writes to.

        Returns:
            the tensor to use in its place: with gradients a view, so that the gradient at the
            recorded value is that of this site alone, without other uses of the same tensor.
        """
        if self.grad and value.requires_grad and torch.is_grad_enabled():
            value = value.view_as(value)
        self._keep(site, loops, index, value, copy)
        return value

    def copy_of(self, value: Tensor) -> Tensor:
        """A copy of the value that was taken last: the recorded one, if there is one. It must not
        be written to."""
        if self._fresh and self._copied is not None and self._copied[0] is value:
            return self._copied[1]
        return value.detach().clone()

    def _keep(
        self, site: str, loops: tuple[str, ...], index: tuple[int, ...], value: Tensor, copy: Tensor | None
    ) -> None:
        self._fresh = False
        if site == "state":
            self.state, self._state_shape = value, value.shape
        if index and index[0] % self.keep.stride:
            return
        form = site, value.shape, self._state_shape
        axes = self._axes.get(form)
        if axes is None:
            axes = self._axes[form] = self.axes(site, value, self.state)
        kept = value
        if not self._plain:
            kept, axes = self.keep.value(value, axes, site)
        if is_state(site):
            self._see_form(site, value, kept)
        hold = self._copy if self._copies and not is_spilling() else self._held
        kept, version = hold(kept, value, copy)
        rows = self.rows if self.rows is not None and len(self.rows) == len(value) else None
        entry = Entry(loops, index, kept, axes, version, torch.is_grad_enabled(), rows)
        if self.store is not None:
            entry = self.store.take(site, full_batch(entry, self.batch))
        self._entries[site].append(entry)
        if self.keep.last is not None and index:
            self._forget(site, index[0] - self.keep.last)

    def _see_form(self, site: str, value: Tensor, kept: Tensor) -> None:
        """How a state is computed, and in what its kept value differs."""
        if site not in self.forms:
            self.forms[site] = form_of(value)
        if not self._plain:
            self.short = self.short if kept.dtype == value.dtype else self.keep.dtype
            self.moved = self.moved or kept.device != value.device

    def _held(self, kept: Tensor, value: Tensor, copy: Tensor | None) -> tuple[Tensor, int | None]:
        """What is held of a value, such that what happens to the model's own tensor is harmless or
        noticed; and how often that was written into, as far as a later write would show by it."""
        if self.store is not None:  # which writes it at once
            return kept, None
        if is_spilling() and not self.grad:
            return spilled(kept.detach()), None
        if self._must_copy(kept) and (self._plain or _share(kept, value)):
            if self.keep.whole and not self.grad:
                return self._copy(kept, value, copy)
            return (kept if self.grad else kept.detach()).clone(), None
        kept = kept if self.grad else kept.detach()
        return kept, None if kept.is_inference() else kept._version

    def _copy(self, kept: Tensor, value: Tensor, copy: Tensor | None) -> tuple[Tensor, int | None]:
        """A copy of a value that is kept whole: `copy`, or the one that was made of this tensor
        last if it still holds the same numbers. Comparing them shows what moves no version counter,
        too, and takes no more memory."""
        if copy is None or copy.stride() != value.stride():
            seen, copy = self._copied or (None, None)
            if copy is None or seen is not value or not _holds(copy, value):
                copy = kept.detach().clone()
        self._copied, self._fresh = (value, copy), True
        return copy, None

    def _must_copy(self, value: Tensor) -> bool:
        if self.copy or self.grad:
            return self.copy
        return value.is_inference() or value.untyped_storage().nbytes() > value.nbytes

    def _forget(self, site: str, newest: int) -> None:
        self._entries[site] = [e for e in self._entries[site] if not e.index or e.index[0] > newest]

    @property
    def origin(self) -> dict[str, str]:
        """What a run's provenance says of the values: the dtype that states were rounded to, and
        the device that they were moved to."""
        short = {} if self.short is None else {"short": str(self.short).removeprefix("torch.")}
        return short | ({"moved": str(self.keep.device)} if self.moved else {})

    @property
    def sites(self) -> list[str]:
        """The recorded sites, in the order of their first calls."""
        return list(self._entries)

    def entries(self, site: str) -> list[Entry]:
        """The recorded values of a site."""
        return self._entries[site]

    def replace(self, site: str, entries: list[Entry]) -> None:
        """Replace the entries of a site."""
        self._entries[site] = entries

    def finish(self, iterations: int, start: int = 0) -> dict[str, States | Tensor]:
        """The recorded values by site: States inside the loop, a Tensor for a site that is called
        once outside it.

        A site that is called several times at one loop index gets an axis `call`. A site that is
        called in several loops, or inside and outside, has its deepest loop under its own name, and
        the others as `name@outside`, `name@iteration`.

        Raises:
            LoopscopeError: a value was changed in place after it was recorded.
        """
        self._copied = None
        for site, entries in self._entries.items():
            self._check_untouched(site, entries)
        return finished_sites(self._entries, iterations, grad=self.grad, batch=self.batch, store=self.store)

    def _check_untouched(self, site: str, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.version is not None and entry.value._version != entry.version:
                where = f" at iteration {entry.index[0]}" if entry.index else ""
                raise LoopscopeError(
                    f"'{site}'{where} was changed in place after it was recorded, so its value is lost. "
                    "Record again with copy=True (values that are copied can't be differentiated at)."
                )


def _holds(copy: Tensor, value: Tensor) -> bool:
    """Whether a copy has the numbers that a value has now."""
    same = same_bytes(value, copy)
    return torch.equal(value, copy) if same is None else same


def _share(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
