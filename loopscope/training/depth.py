"""Depth: the number of iterations that a training step runs."""

import math
from dataclasses import dataclass

import torch

from ..common.errors import LoopscopeError
from .validation import check_count, check_range


@dataclass(frozen=True)
class Fixed:
    """The same number in every step."""

    iterations: int

    def __post_init__(self) -> None:
        check_count("Fixed.iterations", self.iterations, least=1)

    def draw(self, length: int, step: int, generator: torch.Generator) -> int:
        """The number of iterations of step `step`, whose examples have this length."""
        return self.iterations


@dataclass(frozen=True)
class Uniform:
    """Uniform from `low` to `high`, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        check_count("Uniform.low", self.low, least=1)
        check_count("Uniform.high", self.high, least=self.low)

    def draw(self, length: int, step: int, generator: torch.Generator) -> int:
        return _between(self.low, self.high, generator)


@dataclass(frozen=True)
class PerLength:
    """Uniform from `low` to `high` iterations per unit of length (bits, digits): depth grows with a
    curriculum."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < math.inf:
            raise LoopscopeError(
                f"PerLength needs 0 < low <= high, but has low={self.low!r} and high={self.high!r}."
            )

    def draw(self, length: int, step: int, generator: torch.Generator) -> int:
        return _between(math.ceil(self.low * length), math.ceil(self.high * length), generator)


@dataclass(frozen=True)
class PoissonLogNormal:
    """Poisson(e^tau) + 1 with tau ~ N(ln(mean) - sigma^2 / 2, sigma): mostly about `mean`, with a
    heavy tail.

    Huginn's sampler (Geiping et al. 2025, arXiv 2502.05171), whose mean is 33 for mean=32. With
    `gradient=Last(k)`, of n iterations the first n - k run without gradient, as in its code.
    """

    mean: float
    sigma: float = 0.5

    def __post_init__(self) -> None:
        check_range("PoissonLogNormal.mean", self.mean, 1e-6, 1e4)
        check_range("PoissonLogNormal.sigma", self.sigma, 0, 3)

    def draw(self, length: int, step: int, generator: torch.Generator) -> int:
        normal = torch.randn((), generator=generator, dtype=torch.float64)
        rate = torch.exp(math.log(self.mean) - self.sigma**2 / 2 + self.sigma * normal)
        return int(torch.poisson(rate, generator=generator)) + 1


@dataclass(frozen=True)
class Rising:
    """A curriculum: from `start` to `end` iterations in `steps` optimiser steps, each number for
    equally many; then `end`."""

    start: int
    end: int
    steps: int

    def __post_init__(self) -> None:
        check_count("Rising.start", self.start, least=1)
        check_count("Rising.end", self.end, least=self.start)
        check_count("Rising.steps", self.steps, least=1)

    def draw(self, length: int, step: int, generator: torch.Generator) -> int:
        return min(self.end, self.start + (self.end - self.start + 1) * step // self.steps)


Depth = Fixed | Uniform | PerLength | PoissonLogNormal | Rising


def _between(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))
