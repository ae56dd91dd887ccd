"""Small looped modules as other people write them, each with one habit that a recorder must
handle."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

WIDTH = 8


class Core(nn.Module):
    """A small non-linear map of (batch, position, width) to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, h: Tensor) -> Tensor:
        return torch.tanh(self.linear(h))


class Loop(nn.Module):
    """The plain case: h = core(h), `turns` times, then a read-out. `truth` computes the states
    without the module."""

    turns = 5

    def __init__(self) -> None:
        super().__init__()
        self.core = Core()
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for _ in range(self.turns):
            h = self.core(h)
        return self.head(h)

    def truth(self, x: Tensor) -> list[Tensor]:
        """states[0..turns], without calling the module."""
        states = [x]
        for _ in range(self.turns):
            states.append(
                torch.tanh(nn.functional.linear(states[-1], self.core.linear.weight, self.core.linear.bias))
            )
        return states


class InPlace(Loop):
    """The state is one buffer, which every iteration and the read-out overwrite."""

    class Core(Core):
        def forward(self, h: Tensor) -> Tensor:
            return h.copy_(torch.tanh(self.linear(h)))

    def __init__(self) -> None:
        super().__init__()
        self.core = InPlace.Core()

    def forward(self, x: Tensor) -> Tensor:
        h = x.clone()
        for _ in range(self.turns):
            self.core(h)  # its return value is ignored
        answer = self.head(h)
        h.zero_()
        return answer


class Tuple(Loop):
    """The body takes and returns a tuple that holds the state."""

    class Core(Core):
        def forward(self, h: Tensor, t: int) -> tuple[Tensor, Tensor]:
            return torch.full((2,), float(t)), torch.tanh(self.linear(h))

    def __init__(self) -> None:
        super().__init__()
        self.core = Tuple.Core()

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for t in range(self.turns):
            _, h = self.core(h, t)
        return self.head(h)


@dataclass
class Output:
    """The output of `Dataclass`'s body."""

    cost: float
    state: Tensor


class Dataclass(Loop):
    """The body returns a dataclass."""

    class Core(Core):
        def forward(self, h: Tensor) -> Output:
            return Output(0.5, torch.tanh(self.linear(h)))

    def __init__(self) -> None:
        super().__init__()
        self.core = Dataclass.Core()

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for _ in range(self.turns):
            h = self.core(h).state
        return self.head(h)


class Early(Loop):
    """Leaves the loop after the third of five iterations."""

    turns = 3

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for t in range(5):
            h = self.core(h)
            if t == 2:
                break
        return self.head(h)


class Checkpointed(Loop):
    """Gradient checkpointing: every iteration is recomputed in the backward pass."""

    reentrant = False

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for _ in range(self.turns):
            h = checkpoint(self.core, h, use_reentrant=self.reentrant)
        return self.head(h)


class CheckpointedReentrant(Checkpointed):
    """Gradient checkpointing in its reentrant form."""

    reentrant = True


class Learning(Checkpointed):
    """Differentiates its own loop inside the forward pass, so that checkpointing calls the body
    again before the pass ends."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            h = x.detach().requires_grad_()
            first = h
            for _ in range(self.turns):
                h = checkpoint(self.core, h, use_reentrant=False)
            (slope,) = torch.autograd.grad(h.sum(), first)
        return self.head(h.detach() + 0 * slope)


class Twins(Loop):
    """Five different modules that share the storage of their parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Core() for _ in range(self.turns))
        for layer in self.layers:
            layer.linear.weight, layer.linear.bias = self.core.linear.weight, self.core.linear.bias

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for layer in self.layers:
            h = layer(h)
        return self.head(h)


class Alias(Loop):
    """One module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.also = self.core

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for t in range(self.turns):
            h = self.core(h) if t % 2 else self.also(h)
        return self.head(h)


class Nested(nn.Module):
    """HRM's wiring: `low` runs three times on (low + high), then `high` once on (high + low); four
    rounds."""

    rounds, turns = 4, 3

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high, self.head = Core(), Core(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        low, high = torch.zeros_like(x), x
        for _ in range(self.rounds):
            for _ in range(self.turns):
                low = self.low(low + high)
            high = self.high(high + low)
        return self.head(high)

    def truth(self, x: Tensor) -> tuple[list[list[Tensor]], list[Tensor]]:
        """low[t][l] and high[t], without calling the modules."""
        low, high, lows, highs = torch.zeros_like(x), x, [], []
        for _ in range(self.rounds):
            lows.append([])
            for _ in range(self.turns):
                low = torch.tanh(
                    nn.functional.linear(low + high, self.low.linear.weight, self.low.linear.bias)
                )
                lows[-1].append(low)
            high = torch.tanh(
                nn.functional.linear(high + low, self.high.linear.weight, self.high.linear.bias)
            )
            highs.append(high)
        return lows, highs


class Around(nn.Module):
    """Modules outside the body: an embedding before the loop, an injection at the start of an
    iteration, a norm at its end."""

    turns = 4

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inject, self.core = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), Core()
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        e = self.embed(x)
        h = torch.zeros_like(e)
        for _ in range(self.turns):
            h = self.norm(self.core(self.inject(e) + h))
        return self.head(h)


class Fused(nn.Module):
    """nn.TransformerEncoderLayer leaves its fused path as soon as a hook is attached to it."""

    turns = 3

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True, dropout=0.0)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.turns):
            x = self.layer(x)
        return x


FAMILY = [Loop, InPlace, Tuple, Dataclass, Early, Checkpointed, CheckpointedReentrant, Twins, Alias]
"""Loops with a `truth`."""


def build_loop(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    """A module of this class with weights from a seed, in evaluation mode."""
    torch.manual_seed(seed)
    return kind().eval()


def batch(seed: int = 1, size: int = 2, positions: int = 3) -> Tensor:
    """Random inputs (batch, position, width)."""
    return torch.randn(size, positions, WIDTH, generator=torch.Generator().manual_seed(seed))
