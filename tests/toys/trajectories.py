"""Trajectories with a known limit: arrays (state, width) computed from formulas, with noise where
it is wanted."""

import math

import torch
from torch import Tensor

DOUBLE = torch.float64


class Maker:
    """Trajectories with random directions, planes and starts, from one seed."""

    def __init__(self, seed: int, states: int = 64, width: int = 3) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.k = torch.arange(states, dtype=DOUBLE)[:, None]
        self.width = width

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=DOUBLE)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator, dtype=DOUBLE))

    def direction(self, across: Tensor | None = None) -> Tensor:
        v = self.normal(self.width)
        v = v if across is None else v - (v @ across) * across
        return v / v.norm()

    def circle(self, angle: float) -> Tensor:
        plane = torch.linalg.qr(self.normal(max(2, self.width), 2)).Q.T[:, : self.width]
        return torch.cat([(angle * self.k).cos(), (angle * self.k).sin()], dim=1) @ plane

    def noisy(self, x: Tensor, level: float) -> Tensor:
        return x + level * self.normal(*x.shape)

    # Trajectories

    def spiral(self, rate: float = 0.9, angle: float | None = None) -> Tensor:
        return self.normal(self.width) + rate**self.k * self.circle(angle or self.uniform(0.2, 3))

    def approach(self, rate: float = 0.85) -> Tensor:
        return self.normal(self.width) + rate**self.k * self.direction()

    def orbit(self, angle: float | None = None) -> Tensor:
        return self.normal(self.width) + self.circle(angle or self.uniform(0.25, 3))

    def limit_cycle(self, rate: float = 0.95) -> Tensor:
        return self.normal(self.width) + (1 + rate**self.k) * self.circle(self.uniform(0.25, 3))

    def cycle(self, period: int) -> Tensor:
        return self.normal(period, self.width)[torch.arange(len(self.k)) % period]

    def torus(self) -> Tensor:
        return self.circle(math.sqrt(2)) + 0.7 * self.circle(2.3)

    def slider(self, slope: float = 0.1, power: float = 1.0) -> Tensor:
        return (1 + slope * self.k) ** power * self.direction() + 0.8**self.k * self.normal(self.width)

    def drift(self, far: float = 0.6) -> Tensor:
        start = self.direction()
        return start + far * self.k / len(self.k) * self.direction(across=start)

    def explosion(self, rate: float = 1.2) -> Tensor:
        return rate**self.k * self.direction()


def logistic(r: float, states: int, skip: int = 0, start: float = 0.4) -> Tensor:
    """x -> r x (1 - x), (state, 1)."""
    x, result = start, []
    for k in range(skip + states):
        if k >= skip:
            result.append(x)
        x = r * x * (1 - x)
    return torch.tensor(result, dtype=DOUBLE)[:, None]
