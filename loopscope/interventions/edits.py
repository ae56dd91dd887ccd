"""Edits of activations: interventions as values. `record(..., edits=[...])` applies them.

transplant = patch("state", iteration=3, value=donor.states[3], position=-1)
silenced = ablate("core.0.attn.hook_z", head=2)
run = record(model, tokens, edits=[transplant, silenced])
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..core.indexing import Selector, indices, select, selector_text
from ..core.sites import Sites
from .counted_mean import batch_mean
from .edit_values import copied_value, fitted
from .selectors import Where, checked_selectors, selects


@dataclass(frozen=True)
class Edit:
    """One intervention at a site: which iterations, which part of the activation, and what to
    do."""

    site: Any
    """A name; a pattern, or what else `sites=` takes, becomes one edit for each site in a run."""
    action: Literal["patch", "zero", "mean", "add"]
    value: Any = field(default=None, repr=False)
    """patch: the new value; add: the vector. Of the site's shape, of the shape of the selected
    part, or broadcasting to it."""
    iteration: Where = None
    """Iteration t for a site inside the body, state k for `state`; None means all."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Selection by axis name (position, head, batch), and by inner loop (low=2)."""
    source: Any = field(default=None, repr=False, compare=False)
    """The intervention that this edit is a part of, if its user made another one."""
    mask: Any = field(default=None, repr=False, compare=False)
    """mean: which positions count, bool (batch, position); None: those that count in the run."""

    def __post_init__(self) -> None:
        """Selectors in their canonical form.

        Raises:
            LoopscopeError: a selector that is none, or that selects nothing.
        """
        iteration, where = checked_selectors(self.action, self.iteration, self.where)
        object.__setattr__(self, "iteration", iteration)
        object.__setattr__(self, "where", where)

    def applies_at(self, axes: tuple[str, ...], index: tuple[int, ...], count: int | None) -> bool:
        """Whether the edit applies at a loop index.

        Arguments:
            axes: the names of the running loops.
            index: the index of each.
            count: number of the site's iterations, for negative ones; None if not known yet.
        """
        for name, number in zip(axes, index, strict=True):
            selector = self.iteration if name == "iteration" else self.where.get(name)
            size = count if name == "iteration" else None
            if selector is not None and not selects(selector, number, size):
                return False
        return "iteration" in axes or self.iteration is None

    def apply(self, value: Tensor, axes: tuple[str, ...]) -> Tensor:
        """The edited activation, a new tensor; neither `value` nor the edit's own value changes,
        whatever is written to it.

        Arguments:
            axes: the names of the axes of `value`.

        Raises:
            LoopscopeError: the edit's value doesn't fit, the edit selects nothing of the site, or a
                mean is taken over one example.
        """
        selection = tuple(self.where.get(name, slice(None)) for name in axes)
        part = select(value, selection, f"{self}: the site", axes)
        self._check_selection(value, part, selection, axes)
        new = self.replacement(value, part, selection, axes)
        if not any(name in self.where for name in axes):
            return new
        edited = value.clone()
        edited[_mesh(selection, value)] = new.reshape(_kept_shape(selection, part.shape))
        return edited

    def replacement(
        self, value: Tensor, part: Tensor, selection: tuple[Selector, ...], axes: tuple[str, ...]
    ) -> Tensor:
        """What takes the place of the selected part, a tensor of its own.

        Arguments:
            value: the whole activation, with these axes.
            part: what `selection` selects of it.
        """
        if self.action == "patch":
            return fitted(self._tensor(), value, axes, selection, f"{self}")
        if self.action == "add":
            return part + fitted(self._tensor(), value, axes, selection, f"{self}")
        if self.action == "mean":
            mean = batch_mean(value, axes, self.mask, f"{self}", positions=self.where.get("position"))
            return select(mean, selection, f"{self}", axes)
        return torch.zeros_like(part)

    def _tensor(self) -> Tensor:
        value = self.value if isinstance(self.value, Tensor) else copied_value(self.value)
        if not isinstance(value, Tensor):
            raise LoopscopeError(
                f"{self}: a value of several tensors is a whole state, which 'state' takes and no other "
                "site. Make one edit for each site."
            )
        return value

    def _check_selection(
        self, value: Tensor, part: Tensor, selection: tuple[Selector, ...], axes: tuple[str, ...]
    ) -> None:
        """Raise LoopscopeError if the edit selects nothing, or puts two values at one place."""
        if value.numel() and not part.numel():
            raise LoopscopeError(
                f"{self}: it selects nothing of the site, whose shape is {tuple(value.shape)} "
                f"({', '.join(axes)}). Select indices that exist."
            )
        for name, selector, size in zip(axes, selection, value.shape, strict=True):
            numbers = indices(selector, size, name) if isinstance(selector, list) else 0
            if isinstance(numbers, list) and len(set(numbers)) < len(numbers) and self.value is not None:
                raise LoopscopeError(
                    f"{self}: {name} names an index twice, so that two values would be put at one place. "
                    "Name each once."
                )

    def __str__(self) -> str:
        if self.source is not None:
            return str(self.source)
        name = self.site if isinstance(self.site, str) else getattr(self.site, "__name__", self.site)
        place = [] if self.iteration is None else [f"iteration={selector_text(self.iteration)}"]
        place += [f"{name}={selector_text(at)}" for name, at in self.where.items()]
        return f"{self.action} of '{name}'" + (f" at {', '.join(place)}" if place else "")


@guarded
def patch(site: Sites = "state", *, value: Any, iteration: Where = None, **where: Any) -> Edit:
    """Replace a site's activation by `value` (activation patching).

    >>> donor = ls.record(model, other_tokens, iterations=32)
    >>> edit = ls.patch("state", iteration=3, value=donor.states[3], position=-1)
    >>> patched = ls.record(model, tokens, iterations=32, edits=[edit])

    Arguments:
        site: a name; a pattern, "all", a list or a predicate edits every site that it matches, as
            in `sites=`.
        value: a tensor, array, number or lists of numbers: of the site's shape (the selected part
            of it is used), of the selected part's shape, or broadcasting to that. A vector (width,)
            lies along the width; another value with fewer axes must fit in one way only. For
            `state` of a model whose state is a named tuple, also a whole state. The edit keeps a
            copy. It is rounded to the site's dtype, and may hold NaN.
        iteration: an iteration t, a slice, several, a mask, or None for all. `state` at k is the
            state that iteration k reads, or for k = n the one that is read out.
        where: `position=`, `head=`, `batch=` by number, slice, list, array or mask; an inner loop
            by its name, such as `low=2`.

    Raises:
        LoopscopeError: a value that holds no numbers, or a selector that is none. When recorded: an
            unknown site, a value that doesn't fit the site's shape or dtype, and an edit that never
            applies: each iteration and index that is named must run, and of a slice at least one.
            A loop that ends before the iteration, since every position has halted, counts as one in
            which it doesn't run.
    """
    return Edit(site, "patch", copied_value(value), iteration, where)


@guarded
def ablate(
    site: Sites,
    *,
    how: Literal["zero", "mean"] = "zero",
    mask: Any = None,
    iteration: Where = None,
    **where: Any,
) -> Edit:
    """Replace a site's activation by zero, or by its mean over the batch of the same run.

    >>> ls.record(model, tokens, edits=[ls.ablate("core.0.attn.hook_z", head=2)])

    Arguments:
        how: "zero" or "mean".
        mask: for a mean, which positions count, bool (batch, position); None: those that count in
            the run (`run.mask`). The mean of a position is over the examples in which it counts;
            elsewhere the activation stays.
        site, iteration, where: as for `patch`.

    Raises:
        LoopscopeError: `how` is something else, and as for `patch`.
    """
    if mask is not None and how != "mean":
        raise LoopscopeError(
            "mask says over which positions a mean is taken, but how is 'zero'. Leave it out."
        )
    return Edit(site, how, None, iteration, where, mask=mask)


@guarded
def add(
    site: Sites = "state", *, value: Any, scale: float = 1.0, iteration: Where = None, **where: Any
) -> Edit:
    """Add `scale * value` to a site's activation (a steering vector).

    >>> direction = run.states[8].mean((0, 1)) - other.states[8].mean((0, 1))
    >>> ls.record(model, tokens, edits=[ls.add(value=direction, scale=2, iteration=8)])

    Arguments:
        value: a vector (width,), or anything else that `patch` takes.
        site, iteration, where: as for `patch`.

    Raises:
        LoopscopeError: as for `patch`.
    """
    own = copied_value(value)
    if scale != 1:
        own = own * scale if isinstance(own, Tensor) else tuple(part * scale for part in own)
    return Edit(site, "add", own, iteration, where)


def _mesh(selection: tuple[Any, ...], value: Tensor) -> tuple[Tensor, ...]:
    """Index tensors that select a grid of `value` with all its axes kept."""
    result = []
    for axis, selector in enumerate(selection):
        chosen = indices(selector, value.shape[axis], "index")
        shape = [1] * len(selection)
        shape[axis] = -1
        result.append(torch.tensor(chosen, device=value.device).reshape(shape))
    return tuple(result)


def _kept_shape(selection: tuple[Any, ...], shape: torch.Size) -> list[int]:
    """The shape of the selected part with the axes that an int dropped as axes of size 1."""
    sizes = iter(shape)
    return [1 if isinstance(selector, int) else next(sizes) for selector in selection]
