"""Edits of activations: interventions as values. `record(..., edits=[...])` applies them.

transplant = patch("state", iteration=3, value=donor.states[3], position=-1)
silenced = ablate("core.0.attn.hook_z", head=2)
run = record(model, tokens, edits=[transplant, silenced])
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..common.errors import LoopscopeError
from ..core.indexing import select

Where = int | slice | Sequence[int] | None


@dataclass(frozen=True)
class Edit:
    """One intervention at a site: which iterations, which part of the activation, and what to
    do."""

    site: str
    action: Literal["patch", "zero", "mean", "add"]
    value: Any = field(default=None, repr=False)
    """patch: the new value; add: the vector. Of the site's shape, of the shape of the selected
    part, or broadcasting to it."""
    iteration: Where = None
    """Iteration t for a site inside the body, state k for `state`; None means all."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Selection by axis name (position, head, batch), and by inner loop (low=2)."""

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
            if selector is not None and number not in _numbers(selector, size):
                return False
        return "iteration" in axes or self.iteration is None

    def apply(self, value: Tensor, axes: tuple[str, ...]) -> Tensor:
        """The edited activation, a new tensor; `value` itself doesn't change.

        Arguments:
            axes: the names of the axes of `value`.

        Raises:
            LoopscopeError: the edit's value doesn't fit, or a mean is taken over one example.
        """
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
        edited[_mesh(selection, value)] = new.reshape(_kept_shape(selection, part.shape))
        return edited

    def _fitted(self, value: Tensor, selection: tuple[Any, ...], part: Tensor) -> Tensor:
        """The edit's own value in the shape of `part`."""
        new = torch.as_tensor(self.value).to(device=value.device, dtype=value.dtype)
        if new.shape == value.shape:
            return select(new, selection, f"{self}")
        try:
            return new.expand(part.shape)
        except RuntimeError:
            raise LoopscopeError(
                f"{self}: the value must have the site's shape {tuple(value.shape)} or fit the selected part "
                f"{tuple(part.shape)}, but has {tuple(new.shape)}. Take it from a run of the same batch "
                "and length."
            ) from None

    def __str__(self) -> str:
        place = [] if self.iteration is None else [f"iteration={selector_text(self.iteration)}"]
        place += [f"{name}={selector_text(at)}" for name, at in self.where.items()]
        return f"{self.action} of '{self.site}'" + (f" at {', '.join(place)}" if place else "")


def patch(site: str = "state", *, value: Any, iteration: Where = None, **where: Any) -> Edit:
    """Replace a site's activation by `value` (activation patching).

    >>> donor = ls.record(model, other_tokens, iterations=32)
    >>> edit = ls.patch("state", iteration=3, value=donor.states[3], position=-1)
    >>> patched = ls.record(model, tokens, iterations=32, edits=[edit])

    Arguments:
        value: of the site's shape (the selected part of it is used), of the selected part's shape,
            or broadcasting to that. For `state` of a model whose state is a named tuple, also a
            whole state.
        iteration: an iteration t, a slice, several, or None for all. `state` at k is the state that
            iteration k reads, or for k = n the one that is read out.
        where: `position=`, `head=`, `batch=` by number, slice or list; an inner loop by its name,
            such as `low=2`.

    Raises:
        LoopscopeError: only when recorded: an unknown site, an iteration that doesn't run, a value
            that doesn't fit.
    """
    return Edit(site, "patch", value, iteration, where)


def ablate(
    site: str, *, how: Literal["zero", "mean"] = "zero", iteration: Where = None, **where: Any
) -> Edit:
    """Replace a site's activation by zero, or by its mean over the batch of the same run.

    >>> ls.record(model, tokens, edits=[ls.ablate("core.0.attn.hook_z", head=2)])

    Arguments:
        how: "zero" or "mean".
        iteration, where: as for `patch`.

    Raises:
        LoopscopeError: `how` is something else.
    """
    if how not in ("zero", "mean"):
        raise LoopscopeError(f"how must be 'zero' or 'mean', but is {how!r}.")
    return Edit(site, how, None, iteration, where)


def add(
    site: str = "state", *, value: Any, scale: float = 1.0, iteration: Where = None, **where: Any
) -> Edit:
    """Add `scale * value` to a site's activation (a steering vector).

    >>> direction = run.states[8].mean((0, 1)) - other.states[8].mean((0, 1))
    >>> ls.record(model, tokens, edits=[ls.add(value=direction, scale=2, iteration=8)])

    Arguments:
        value: a vector (width,), or anything else that `patch` takes.
        iteration, where: as for `patch`.
    """
    return Edit(site, "add", torch.as_tensor(value) * scale, iteration, where)


def selector_text(where: Any) -> str:
    """A selector as it is written in an index: `3`, `2:5`, `[0, 4]`."""
    if isinstance(where, slice):
        return f"{'' if where.start is None else where.start}:{'' if where.stop is None else where.stop}"
    return str(where)


def _numbers(selector: Where, count: int | None) -> Sequence[int]:
    """The numbers that a selector selects of `count`."""
    if isinstance(selector, slice):
        stop = count if count is not None else (selector.stop if selector.stop is not None else 1 << 40)
        return range(*selector.indices(stop))
    numbers = [selector] if isinstance(selector, int) else list(selector or ())
    return [n + count if n < 0 and count is not None else n for n in numbers]


def _mesh(selection: tuple[Any, ...], value: Tensor) -> tuple[Tensor, ...]:
    """Index tensors that select a grid of `value` with all its axes kept."""
    result = []
    for axis, selector in enumerate(selection):
        numbers = torch.arange(value.shape[axis], device=value.device)
        index = selector if isinstance(selector, slice) else torch.as_tensor(selector, device=value.device)
        shape = [1] * len(selection)
        shape[axis] = -1
        result.append(numbers[index].reshape(shape))
    return tuple(result)


def _kept_shape(selection: tuple[Any, ...], shape: torch.Size) -> list[int]:
    """The shape of the selected part with the axes that an int dropped as axes of size 1."""
    sizes = iter(shape)
    return [1 if isinstance(selector, int) else next(sizes) for selector in selection]
