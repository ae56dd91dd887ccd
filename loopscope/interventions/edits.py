"""Edits: interventions as values. Making one changes nothing; `record(..., edits=[...])` applies
it.

swap = patch("state", iteration=3, value=donor.states[3], position=-1)
mute = ablate("core.0.attn.hook_z", head=2)
run = record(model, tokens, edits=[swap, mute, skip(5)])
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..common.errors import LoopscopeError, nearest
from ..core.indexing import select

Where = int | slice | Sequence[int] | None

_SURE = 1e4  # a logit whose sigmoid is exactly 1 in every precision, and of its negative exactly 0


@dataclass(frozen=True)
class Edit:
    """One intervention: site, iteration, place, and what to do there."""

    site: str
    action: Literal["patch", "zero", "mean", "add"]
    value: Any = field(default=None, repr=False)
    """patch: the new value; add: the vector. Of the site's shape, of the selected part's shape, or
    broadcasting to it."""
    iteration: Where = None
    """Iteration t for a site inside the body, state k for `state`; None means all of them."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Selection by axis name (position, head, batch), and by inner loop (low=2)."""

    def hits(self, axes: tuple[str, ...], index: tuple[int, ...], count: int | None) -> bool:
        """Whether this edit applies at a loop index. `count`: entries of the site, for negative
        iterations."""
        for name, number in zip(axes, index, strict=True):
            wanted = self.iteration if name == "iteration" else self.where.get(name)
            if wanted is not None and number not in _numbers(wanted, count if name == "iteration" else None):
                return False
        return "iteration" in axes or self.iteration is None

    def apply(self, value: Tensor, axes: tuple[str, ...]) -> Tensor:
        """The edited value, a new tensor; `value` itself is left alone. `axes` are the site's
        own."""
        selection = tuple(self.where.get(name, slice(None)) for name in axes)
        part = select(value, selection, f"{self}")
        if self.action == "patch":
            new = self._fitted(value, selection, part)
        elif self.action == "add":
            new = part + self._fitted(value, selection, part)
        elif self.action == "mean":
            if value.shape[0] < 2:
                raise LoopscopeError(
                    f"{self}: a mean over the batch needs two examples or more, but there is one. "
                    "Record a larger batch, or patch with a mean that you have."
                )
            new = select(value.mean(0, keepdim=True).expand_as(value), selection, f"{self}")
        else:
            new = torch.zeros_like(part)
        if not any(name in self.where for name in axes):
            return new
        edited = value.clone()
        edited[_mesh(selection, value)] = new.reshape(
            [1 if isinstance(one, int) else size for one, size in _sized(selection, part.shape)]
        )
        return edited

    def _fitted(self, value: Tensor, selection: tuple[Any, ...], part: Tensor) -> Tensor:
        given = torch.as_tensor(self.value).to(device=value.device, dtype=value.dtype)
        if given.shape == value.shape:
            return select(given, selection, f"{self}")
        try:
            return given.expand(part.shape)
        except RuntimeError:
            raise LoopscopeError(
                f"{self}: the value must have the site's shape {tuple(value.shape)} or fit the selected part "
                f"{tuple(part.shape)}, but has {tuple(given.shape)}. Take it from a run of the same batch "
                "and length."
            ) from None

    def __str__(self) -> str:
        place = [] if self.iteration is None else [f"iteration={_shown(self.iteration)}"]
        place += [f"{name}={_shown(at)}" for name, at in self.where.items()]
        return f"{self.action} of '{self.site}'" + (f" at {', '.join(place)}" if place else "")


@dataclass(frozen=True)
class Times:
    """Run an iteration another number of times than once (0 skips it), or tell it another number
    than its own."""

    iteration: int
    times: int
    told: int | None = None

    def __str__(self) -> str:
        if self.told is not None:
            return f"run iteration {self.told} in place of {self.iteration}"
        return (
            f"skip iteration {self.iteration}"
            if not self.times
            else f"run iteration {self.iteration} {self.times} times"
        )


class Several:
    """An intervention that is several edits."""

    def edits(
        self, fields: tuple[str, ...] = (), update_sites: Mapping[str, Sequence[str]] | None = None
    ) -> "Sequence[Edit | Times]":
        """Them, for one run. `fields`: names of the state's tensors; `update_sites`: by field, the
        sites that its updates pass."""
        raise NotImplementedError(f"{type(self).__name__} must say its edits().")


@dataclass(frozen=True)
class HaltAt(Several):
    """Halt in one iteration, neither before nor after."""

    iteration: int
    where: Mapping[str, Any] = field(default_factory=dict)

    def edits(
        self, fields: tuple[str, ...] = (), update_sites: Mapping[str, Sequence[str]] | None = None
    ) -> list[Edit]:
        """The same as edits of the halting unit's logit: never before, surely then."""
        before = [Edit("halting", "patch", -_SURE, slice(0, self.iteration), self.where)]
        return before[: self.iteration] + [Edit("halting", "patch", _SURE, self.iteration, self.where)]

    def __str__(self) -> str:
        place = "".join(f", {name}={_shown(at)}" for name, at in self.where.items())
        return f"halt at iteration {self.iteration}{place}"


def halt_at(iteration: int, **where: Any) -> HaltAt:
    """Force positions to halt in an iteration, whatever the halting unit says; those after it are
    not reached.

    >>> ls.record(model, tokens, edits=[ls.halt_at(2, position=-1)])

    Needs a model with a halting unit that is asked in every iteration (adaptive computation time,
    an exit gate).

    Arguments:
        iteration: t, 0-based: with 0 one iteration is used.
        where: `position=`, `batch=` by number, slice or list; none: everywhere.
    """
    if isinstance(iteration, bool) or not isinstance(iteration, int) or iteration < 0:
        raise LoopscopeError(
            "halt_at needs an iteration counted from 0, as it stands for itself in a run of any length, "
            f"but got {iteration!r}. To let positions halt later, see bias_halting."
        )
    return HaltAt(iteration, where)


def bias_halting(value: float | int, *, iteration: Where = None, **where: Any) -> Edit:
    """Add `value` to the halting unit's logit: above 0 halts earlier, below 0 later. Places as in
    `patch`.

    A transplant is a patch: `ls.patch("halting", value=donor["halting"][3], iteration=3)`, with
    `sites=["halting"]` recorded.
    """
    return add("halting", value=value, iteration=iteration, **where)


@dataclass(frozen=True)
class Swap(Several):
    """Run two iterations in each other's place."""

    first: int
    second: int

    def edits(
        self, fields: tuple[str, ...] = (), update_sites: Mapping[str, Sequence[str]] | None = None
    ) -> "list[Edit | Times]":
        """The same as two moments of the schedule."""
        return [Times(self.first, 1, self.second), Times(self.second, 1, self.first)]

    def __str__(self) -> str:
        return f"swap iterations {self.first} and {self.second}"


def swap(first: int, second: int) -> Swap:
    """Run two iterations in each other's place: at `first` the model is told that this is iteration
    `second`, and the reverse.

    States and sites keep the order in which they came. A loop whose iterations are all the same map
    (no step code, no weights of an iteration's own) can't tell, and its run stays as it is.

    Arguments:
        first, second: iterations t; negative ones count from the end.
    """
    for number in (first, second):
        if isinstance(number, bool) or not isinstance(number, int):
            raise LoopscopeError(
                f"swap needs two iterations, whole numbers, but got {first!r} and {second!r}."
            )
    return Swap(first, second)


def patch(site: str = "state", *, value: Any, iteration: Where = None, **where: Any) -> Edit:
    """Put `value` in place of a site's activation.

    Arguments:
        value: of the site's shape (the selected part of it is taken), or of the selected part's, or
            broadcasting to that. For `state` of a model whose state is a named tuple, a whole state
            is accepted too.
        iteration: t, a slice, several, or None for all; `state` at k is what iteration k reads, k =
            n what is read out.
        where: `position=`, `head=`, `batch=` by number, slice or list; an inner loop by its name,
            such as `low=2`.
    """
    return Edit(site, "patch", value, iteration, where)


def ablate(
    site: str, *, how: Literal["zero", "mean"] = "zero", iteration: Where = None, **where: Any
) -> Edit:
    """Put zero, or the mean over the batch of this same run, in place of a site's activation.
    Places as in `patch`."""
    if how not in ("zero", "mean"):
        raise LoopscopeError(f"how must be 'zero' or 'mean', but is {how!r}.")
    return Edit(site, how, None, iteration, where)


def add(
    site: str = "state", *, value: Any, scale: float = 1.0, iteration: Where = None, **where: Any
) -> Edit:
    """Add `scale` times a vector (or anything that fits) to a site's activation. Places as in
    `patch`."""
    return Edit(site, "add", torch.as_tensor(value) * scale, iteration, where)


def skip(iteration: int) -> Times:
    """Leave an iteration out: states[t+1] = states[t], and the sites inside have no value at t."""
    return Times(iteration, 0)


def repeat(iteration: int, times: int = 2) -> Times:
    """Run an iteration `times` times, each on what the one before gave; its sites then have an axis
    `call`."""
    if isinstance(times, bool) or not isinstance(times, int) or times < 0:
        raise LoopscopeError(f"times must be a whole number, 0 or more, but is {times!r}.")
    return Times(iteration, times)


def expanded(
    edits: Sequence[Edit | Times | Several],
    fields: tuple[str, ...],
    update_sites: Mapping[str, Sequence[str]] | None = None,
) -> tuple[list[Edit], list[Times]]:
    """Edits of sites and of the schedule apart; a patch with a whole named-tuple state becomes one
    per field.

    Arguments:
        fields: names of the state's tensors, the primary one first; empty if the state is one
            tensor.
        update_sites: by field, the sites that an update of it passes inside an iteration.
    """
    values: list[Edit] = []
    schedule: list[Times] = []
    for edit in (
        part
        for one in edits
        for part in (one.edits(fields, update_sites) if isinstance(one, Several) else [one])
    ):
        if isinstance(edit, Times):
            schedule.append(edit)
        elif not isinstance(edit, Edit):
            raise LoopscopeError(
                "an edit is made by patch, ablate, add, freeze, skip, repeat, swap, halt_at or "
                f"bias_halting, but got {edit!r}."
            )
        elif edit.site in {"state", f"state.{fields[0] if fields else ''}"} and isinstance(edit.value, tuple):
            if len(edit.value) != len(fields):
                raise LoopscopeError(
                    f"{edit}: this model's state has {len(fields) or 1} tensor(s) {fields}, but the value "
                    f"has {len(edit.value)}. Pass run.state({edit.iteration}) of a run of the same model."
                )
            for number, (name, value) in enumerate(zip(fields, edit.value, strict=True)):
                site = f"state.{name}" if number else "state"
                values.append(Edit(site, edit.action, value, edit.iteration, edit.where))
        else:
            values.append(edit)
    return values, schedule


def checked_range(edit: Edit | Times, first: int, last: int) -> None:
    """Say so if an edit names iterations that won't run."""
    wanted = edit.iteration
    if wanted is None or isinstance(wanted, slice):
        return
    size = last + 1
    for number in [wanted] if isinstance(wanted, int) else wanted:
        if not first <= (number + size if number < 0 else number) <= last:
            raise LoopscopeError(
                f"{edit}: the iteration must lie in {first}..{last} for this run, or count from the end. "
                "Choose another, or record more iterations."
            )


def checked_places(edit: Edit, axes: tuple[str, ...]) -> None:
    """Say so if an edit selects along an axis that its site doesn't have."""
    for name in edit.where:
        if name not in axes:
            raise LoopscopeError(f"{edit}: this site has no axis {name!r}. {nearest(name, axes)}")


def _numbers(wanted: Where, count: int | None) -> Any:
    if isinstance(wanted, slice):
        stop = count if count is not None else (wanted.stop if wanted.stop is not None else 1 << 40)
        return range(*wanted.indices(stop))
    numbers = [wanted] if isinstance(wanted, int) else list(wanted or ())
    return [n + count if n < 0 and count is not None else n for n in numbers]


def _shown(where: Any) -> str:
    if isinstance(where, slice):
        return f"{'' if where.start is None else where.start}:{'' if where.stop is None else where.stop}"
    return str(where)


def _mesh(selection: tuple[Any, ...], value: Tensor) -> tuple[Tensor, ...]:
    """Index tensors that address the selected part with all axes kept, as a grid."""
    numbers = []
    for axis, one in enumerate(selection):
        everything = torch.arange(value.shape[axis], device=value.device)
        chosen = (
            everything[one]
            if isinstance(one, slice)
            else everything[torch.as_tensor(one, device=value.device)]
        )
        shape = [1] * len(selection)
        shape[axis] = -1
        numbers.append(chosen.reshape(shape))
    return tuple(numbers)


def _sized(selection: tuple[Any, ...], shape: torch.Size) -> list[tuple[Any, int]]:
    """Each selector with the size of its axis in the part, where an int has lost its axis."""
    sizes = iter(shape)
    return [(one, 1 if isinstance(one, int) else next(sizes)) for one in selection]
