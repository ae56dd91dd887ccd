"""Statistics of the same samples, computed once: a verdict and its estimates are about the same
draws."""

from collections.abc import Callable
from typing import TypeVar

from jaxtyping import Int
from torch import Tensor

T = TypeVar("T")


def once_per_sample(
    statistic: Callable[[Int[Tensor, " example"]], T],
) -> Callable[[Int[Tensor, " example"]], T]:
    """The same function of the indices of examples, which remembers its value for each sample.

    >>> spread = once_per_sample(lambda draw: float(values[draw].mean()))
    """
    values: dict[bytes, T] = {}

    def remembered(draw: Int[Tensor, " example"]) -> T:
        key = draw.numpy().tobytes()
        if key not in values:
            values[key] = statistic(draw)
        return values[key]

    return remembered
