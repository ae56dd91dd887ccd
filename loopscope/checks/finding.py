"""Finding: what one check came to, before it has its name in a row."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..adapters.self_check import largest_difference as tensor_difference
from ..core.sites import Path, tensors_in
from .result import Outcome


class Finding(NamedTuple):
    """Outcome, largest difference and reason, as in a row."""

    outcome: Outcome
    difference: float | None
    reason: str


def same(difference: float, what: str, otherwise: str = "") -> Finding:
    """Passed if two things are equal bit for bit.

    Arguments:
        what: was compared; the reason of a check that passed.
        otherwise: what to say if they differ, in place of it.
    """
    if difference == 0:
        return Finding(Outcome.passed, 0.0, what)
    how = "in shape or type" if difference == float("inf") else f"by up to {difference:.3g}"
    return failed(f"{otherwise or what + ' differ'} {how}", difference)


def failed(reason: str, difference: float | None = None) -> Finding:
    """A check that failed."""
    return Finding(Outcome.failed, difference, reason)


def inapplicable(reason: str, difference: float | None = None) -> Finding:
    """A check that the model gives no occasion for."""
    return Finding(Outcome.not_applicable, difference, reason)


def largest_difference(one: Any, other: Any) -> float:
    """The largest absolute difference between the tensors of two nested values: 0 if they are equal
    bit for bit (NaN equals NaN), infinity if their shapes, types or number differ."""
    ones, others = _by_path(one), _by_path(other)
    if ones.keys() != others.keys():
        return float("inf")
    return max((tensor_difference(value, others[path]) for path, value in ones.items()), default=0.0)


def largest_size(value: Any) -> float:
    """The largest absolute finite number among the tensors of a nested value; 0 if there is
    none."""
    tensors: Iterable[Tensor] = _by_path(value).values()
    sizes = (torch.nan_to_num(tensor.detach().double(), 0, 0, 0).abs() for tensor in tensors)
    return max((float(size.max()) for size in sizes if size.numel()), default=0.0)


def _by_path(value: Any) -> dict[Path, Tensor]:
    return dict(tensors_in(value))
