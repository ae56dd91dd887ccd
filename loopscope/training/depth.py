"""How many iterations a training step runs."""

import math
from dataclasses import dataclass

import torch

from ..errors import LoopscopeError
from .checks import counted


@dataclass(frozen=True)
class Fixed:
    """The same number in every step."""

    iterations: int

    def __post_init__(self) -> None:
        counted("Fixed.iterations", self.iterations, least=1)

    def draw(self, length: int, generator: torch.Generator) -> int:
        return self.iterations


@dataclass(frozen=True)
class Uniform:
    """Each number from `low` to `high`, both included, equally often."""

    low: int
    high: int

    def __post_init__(self) -> None:
        counted("Uniform.low", self.low, least=1)
        counted("Uniform.high", self.high, least=self.low)

    def draw(self, length: int, generator: torch.Generator) -> int:
        return _between(self.low, self.high, generator)


@dataclass(frozen=True)
class PerLength:
    """Uniform from `low` to `high` iterations per unit of length (bits, digits): depth grows with a curriculum."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < math.inf:
            raise LoopscopeError(
                f"PerLength needs 0 < low <= high, but has low={self.low!r} and high={self.high!r}."
            )

    def draw(self, length: int, generator: torch.Generator) -> int:
        return _between(math.ceil(self.low * length), math.ceil(self.high * length), generator)


Depth = Fixed | Uniform | PerLength


def _between(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))
