"""Looped modules that can be recorded, but whose state is more than their body returns, or isn't
all that an iteration reads."""

import torch
from torch import Tensor, nn

from .foreign_loops import WIDTH, Core, Loop


class Noise(Loop):
    """Noise comes before each call."""

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for _ in range(4):
            h = self.core(h + 0.1 * torch.randn_like(h))
        return self.head(h)


class Dropout(Loop):
    """Dropout inside the body, in training."""

    def __init__(self) -> None:
        super().__init__()
        self.core: nn.Module = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(0.3), nn.Tanh())


class ResidualOutside(Loop):
    """The residual is added by the module, so no call returns the state."""

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for _ in range(4):
            h = h + 0.5 * self.core(h)
        return self.head(h)


class Momentum(Loop):
    """Each call reads the last two states."""

    def forward(self, x: Tensor) -> Tensor:
        before, h = x, x
        for _ in range(4):
            before, h = h, self.core(h + 0.5 * (h - before))
        return self.head(h)


class Anderson(nn.Module):
    """A deep equilibrium solved by Anderson mixing of the last three iterates, until it settles."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.core, self.head = nn.Linear(WIDTH, WIDTH), Core(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        e, z = self.embed(x), torch.zeros_like(x)
        read: list[Tensor] = []
        images: list[Tensor] = []
        for _ in range(12):
            image = self.core(z + e)
            read, images = [*read, z.flatten(1)][-3:], [*images, image.flatten(1)][-3:]
            if float((image - z).norm() / image.norm()) < 1e-3:
                return self.head(image)
            off = torch.stack([b - a for a, b in zip(read, images, strict=True)], 1)
            normal = torch.bmm(off, off.transpose(1, 2)) + 1e-4 * torch.eye(len(read))
            share = torch.linalg.solve(normal, torch.ones(len(x), len(read), 1))
            z = (share / share.sum(1, keepdim=True) * torch.stack(images, 1)).sum(1).view_as(z)
        return self.head(z)


class Reader(nn.Module):
    """A recurrent cell reads a sequence: the answer is made of all its states."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        h, states = x.new_zeros(len(x), WIDTH), []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            states.append(h)
        return self.head(torch.stack(states, 1))


class InAnAttribute(Loop):
    """The body keeps its state in an attribute, and receives the input alone."""

    class Core(Core):
        h: Tensor

        def forward(self, x: Tensor) -> Tensor:
            self.h = torch.tanh(self.linear(self.h) + x)
            return self.h

    def __init__(self) -> None:
        super().__init__()
        self.core = InAnAttribute.Core()

    def forward(self, x: Tensor) -> Tensor:
        self.core.h, y = torch.zeros_like(x), x
        for _ in range(4):
            y = self.core(x)
        return self.head(y)


class Complex(nn.Module):
    """A state of complex numbers."""

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(0.2 * torch.randn(WIDTH, WIDTH, dtype=torch.cfloat))

        def forward(self, z: Tensor) -> Tensor:
            return torch.tanh(z @ self.weight)

    def __init__(self) -> None:
        super().__init__()
        self.core, self.head = Complex.Body(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = x + 0j
        for _ in range(4):
            z = self.core(z)
        return self.head(z.real)


class PositionsFirst(nn.Module):
    """The state is (position, batch, width)."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.head = nn.TransformerEncoderLayer(WIDTH, 2, 16, dropout=0.0), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = x.transpose(0, 1)
        for _ in range(4):
            h = self.core(h)
        return self.head(h.transpose(0, 1))
