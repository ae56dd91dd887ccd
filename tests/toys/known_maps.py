"""Looped models with known dynamics: a map that is iterated at every position. They have no
weights; the tokens give the initial states."""

from collections.abc import Callable

import torch
from torch import Tensor

from loopscope.nn import LoopedModule


class Map(LoopedModule):
    """x -> F(x). Each token stands for one of 997 initial states."""

    def __init__(self, step: Callable[[Tensor], Tensor], width: int = 2, spread: float = 1.0) -> None:
        super().__init__(iterations=32, vocabulary=width)
        self._step, self.width, self.spread = step, width, spread
        self.setup()

    def encode(self, tokens: Tensor) -> Tensor:
        points = torch.randn((997, self.width), generator=torch.Generator().manual_seed(0))
        return self.spread * points[tokens % 997]

    def initial(self, context: Tensor) -> Tensor:
        return context

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        return self._step(state)

    def decode(self, state: Tensor, context: Tensor) -> Tensor:
        return state


TOKENS = torch.arange(24).reshape(4, 6)


def contracting(rho: float, width: int = 8) -> Map:
    """x* + A (x - x*), where A is symmetric with one eigenvalue rho and all others rho / 4."""
    rotation, _ = torch.linalg.qr(
        torch.randn((width, width), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    )
    sizes = torch.full((width,), rho / 4, dtype=torch.float64)
    sizes[0] = rho
    a, goal = (rotation @ sizes.diag() @ rotation.T).float(), torch.ones(width)
    return Map(lambda x: goal + (x - goal) @ a.T, width)


def spiralling(rho: float, angle: float) -> Map:
    """Rotation by `angle` and scaling by rho: a pair of complex eigenvalues."""
    return _rotation(rho, angle)


def rotating(angle: float) -> Map:
    """Rotation by `angle` about a point that isn't the origin."""
    return _rotation(1.0, angle)


def growing(rate: float) -> Map:
    """x -> rate x."""
    return Map(lambda x: rate * x)


def drifting() -> Map:
    """A constant vector is added in every iteration."""
    return Map(lambda x: x + torch.tensor([0.5, 0.2]))


def standing() -> Map:
    """x -> x."""
    return Map(lambda x: x.clone())


def _rotation(rho: float, angle: float) -> Map:
    c, s = torch.tensor(angle).cos() * rho, torch.tensor(angle).sin() * rho
    a, goal = torch.stack([torch.stack([c, -s]), torch.stack([s, c])]), torch.tensor([3.0, 1.0])
    return Map(lambda x: goal + (x - goal) @ a.T)
