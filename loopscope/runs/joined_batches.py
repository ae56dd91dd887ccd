"""Runs of several batches of examples as one run, whose batch axis has the examples of one after
those of the other."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..common.caller import users_stacklevel
from ..common.errors import LoopscopeError, LoopscopeWarning
from ..core.counted import Counted
from ..core.lazy_values import form_at
from ..core.states import States
from ..halting.halting_record import Halting
from .batch_values import joined_states
from .run import Run

MOST = 1_000_000_000
"""Bytes of an output, or of a site outside the loop, that are put together in memory."""


def joined_batches(runs: Sequence[Run], reload: Callable[[], Any] | None = None) -> Run:
    """One run of the examples of several. The States read from the batches when they are asked
    for. An output, or a site outside the loop, of more than a gigabyte is left out, and any site
    whose values don't have a row for each example.

    Arguments:
        reload: gives the model that made them.

    Raises:
        LoopscopeError: two batches don't fit together.
    """
    first, sizes = runs[0], [batch_size(run) for run in runs]
    for number, run in enumerate(runs):
        check_alike(first, run, number)
    sites: dict[str, Any] = {}
    left_out: list[str] = []
    for name in first.names:
        parts = [run[name] for run in runs]
        if not all(_has_rows(part, size) for part, size in zip(parts, sizes, strict=True)):
            left_out.append(name)
            continue
        sites[name] = joined_states(parts, sizes) if isinstance(parts[0], States) else _concatenated(parts)
    _warn_left_out(first, left_out, sizes[0])
    outputs = [run.output for run in runs]
    inputs = {
        name: _joined_input(f"input '{name}'", [run.inputs[name] for run in runs], sizes)
        for name in first.inputs
    }
    return Run(
        tokens=_joined_input("tokens", [run.tokens for run in runs], sizes),
        inputs=inputs,
        iterations=max(run.iterations for run in runs),
        sites={name: site for name, site in sites.items() if site is not None},
        output=_concatenated(outputs) if all(map(_has_rows, outputs, sizes)) else None,
        origin=first.origin | {"batches": sizes},
        halting=joined_halting([run.halting for run in runs]),
        counted=_counted(runs),
        reload=reload,
    )


def batch_size(run: Run) -> int:
    """How many examples a run has."""
    states = run.states
    size = dict(zip(states.axes[1:], states.shape[1:], strict=True)).get("batch")
    if size is None or not _has_rows(states, size):
        raise LoopscopeError(
            "the states of each batch must have a row for each example, and be of one shape, to be put "
            f"together, but have the axes {states.axes}, {states.shape}. Record the batches one by one: "
            "ls.record(model, tokens, to=...)."
        )
    return size


def _has_rows(site: Any, size: int) -> bool:
    """Whether each value of a site has a row for each of so many examples."""
    if not isinstance(site, States):
        return isinstance(site, Tensor) and site.shape[:1] == (size,)
    forms = (form_at(site.by_index, index).shape for index in site.by_index)
    depth = len(next(iter(site.by_index), ()))
    return site.axes[depth : depth + 1] == ("batch",) and all(form[:1] == (size,) for form in forms)


def _warn_left_out(first: Run, names: Sequence[str], size: int) -> None:
    if names:
        listed = ", ".join(f"'{name}' {_value_shape(first[name])}" for name in names)
        warnings.warn(
            f"the run of all batches lacks {listed}, of which a value doesn't have a row for each of the "
            f"{size} examples of a batch. Each batch has them: ls.load_run(folder / 'batch-00000').",
            LoopscopeWarning,
            stacklevel=users_stacklevel(),
        )


def _value_shape(site: States | Tensor) -> tuple[int, ...]:
    depth = len(next(iter(site.by_index), ())) if isinstance(site, States) else 0
    return tuple(site.shape[depth:])


def check_alike(first: Run, run: Run, number: int) -> None:
    """Raise LoopscopeError unless a run has the sites of the first, of the same shape but for the
    number of examples.

    Arguments:
        number: of its batch.
    """
    if run.names != first.names:
        raise LoopscopeError(
            f"the batches of one run must have the same sites, but batch 0 has {first.names}, and batch "
            f"{number} has {run.names}. Record those apart that take another way through the model."
        )
    if run.inputs.keys() != first.inputs.keys():
        raise LoopscopeError(
            f"the batches of one run must have the same inputs, but batch 0 has {sorted(first.inputs)}, and "
            f"batch {number} has {sorted(run.inputs)}. Pass the same to all, such as a mask that hides "
            "nothing."
        )
    for name in first.names:
        one, other = _form(first[name]), _form(run[name])
        if one != other:
            raise LoopscopeError(
                f"the batches of one run must have the same shape but for the number of examples, but "
                f"'{name}' has {one} in batch 0, and {other} in batch {number}. Pad all to one length, with "
                "a mask: (tokens, {'attention_mask': mask}), or a tokenizer's output with "
                "padding='max_length'."
            )


def _form(site: States | Tensor) -> Any:
    if isinstance(site, Tensor):
        return None  # it is left out if it doesn't fit
    sizes = dict(zip(site.axes[1:], site.shape[1:], strict=True))
    sizes.pop("batch", None)
    return sizes, str(site.dtype).removeprefix("torch.")


def _concatenated(parts: Sequence[Any]) -> Tensor | None:
    """Tensors with a row for each example as one; None if they are none, or too large."""
    if not all(isinstance(part, Tensor) and part.ndim for part in parts):
        return None
    if len({(part.shape[1:], part.dtype) for part in parts}) > 1 or sum(p.nbytes for p in parts) > MOST:
        return None
    return torch.cat(list(parts))


def _joined_input(what: str, parts: Sequence[Any], sizes: Sequence[int]) -> Any:
    """The tokens, or a further input, of all batches."""
    rows = all(isinstance(p, Tensor) and p.shape[:1] == (n,) for p, n in zip(parts, sizes, strict=True))
    if rows and len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(list(parts))
    if all(equal(parts[0], part) for part in parts):
        return parts[0]
    raise LoopscopeError(
        f"the {what} of each batch must be a tensor with a row for each example, of the same shape in all "
        "batches, or the same in all, to be put together. Pad all to one length, with a mask."
    )


def equal(one: Any, other: Any) -> bool:
    """Whether two values are the same, with the tensors in them."""
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        alike = isinstance(one, Tensor) and isinstance(other, Tensor) and one.dtype == other.dtype
        return alike and torch.equal(one.cpu(), other.cpu())
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and bool(one == other)


def joined_halting(parts: Sequence[Halting | None]) -> Halting | None:
    """The halting of all examples; None where a part has none. In iterations that a batch didn't
    run, its weights are 0."""
    records = [part for part in parts if part is not None]
    if len(records) < len(parts):
        return None
    longest = max(len(one.weights) for one in records)
    missing = [longest - len(one.weights) for one in records]
    weights = [pad(one.weights, [0, 0, 0, 0, 0, n]) for one, n in zip(records, missing, strict=True)]
    rest = {
        name: torch.cat([getattr(one, name) for one in records])
        for name in ("iteration", "halted", "remainder", "cost")
    }
    return Halting(weights=torch.cat(weights, dim=1), **rest, kind=records[0].kind)


def _counted(runs: Sequence[Run]) -> Counted | None:
    parts = [run.counted for run in runs]
    if all(part.everything for part in parts):
        return None
    partial = next(part for part in parts if not part.everything)
    return Counted(torch.cat([part.mask for part in parts]), partial.source)
